// The page bench/OPERATOR.md.

export interface Figure {
  readonly what: string;
  readonly value: number;
  readonly unit: string;
  /** Not more than this. */
  readonly target?: number;
}

export interface OperatorBench {
  readonly cpu: string;
  readonly cores: number;
  readonly node: string;
  /** Version of the API server. */
  readonly kubernetes: string;
  /** YYYY-MM-DD. */
  readonly date: string;
  readonly deployments: number;
  readonly restSeconds: number;
  /** Load average over a minute, when the first was created and when all were Ready. */
  readonly load: readonly [number, number];
  /** Node's flags beyond those of the image. */
  readonly flags: readonly string[];
  readonly figures: readonly Figure[];
  /** The operator's calls until rest, by verb and resource. */
  readonly calls: readonly (readonly [string, number])[];
  /** Its writes at rest. */
  readonly unrest: readonly (readonly [string, number])[];
}

function rounded(value: number): string {
  return Number.isInteger(value) ? String(value) : value.toFixed(Math.abs(value) >= 100 ? 0 : 1);
}

export function page(bench: OperatorBench): string {
  const figures = bench.figures.map(({ what, value, unit, target }) => {
    const wanted =
      target === undefined ? '' : `${value <= target ? '' : '**missed** '}${target} ${unit}`.trim();
    return `| ${what} | ${`${rounded(value)} ${unit}`.trim()} | ${wanted} |`;
  });
  const calls = bench.calls.map(([call, count]) => `| ${call} | ${rounded(count / bench.deployments)} |`);
  const unrest = bench.unrest.map(([call, count]) => `${call} ${count} times`).join(', ');
  const flags = bench.flags.length === 0 ? '' : `, Node's flags beside the image's: ${bench.flags.join(' ')}`;
  const [before, after] = bench.load.map((load) => load.toFixed(1));
  return `# The operator at scale

\`npm run bench:operator -- --deployments ${bench.deployments} --rest-seconds ${bench.restSeconds}\`, ${bench.date}: ${bench.deployments} InternVLDeployments of one replica
with two ranks (${bench.deployments * 3} pods with the routers'), against a real control plane on the same machine, with kwok's nodes. The operator is the bundle of
its image, started as the image starts it. What routers would report is written for them. Calls are counted in the API server's audit log.

- Machine: ${bench.cpu}, ${bench.cores} cores; load average over a minute ${before} when the first was created, ${after} when all were Ready. The
  bench itself loads two cores; with anything more beside it, seconds say more of the machine than of the operator, and calls, writes and memory
  are what can be compared.
- Node ${bench.node}, Kubernetes ${bench.kubernetes}${flags}.
${bench.deployments < 1000 ? `- The targets are for 1,000 deployments; this run had ${bench.deployments}.\n` : ''}
| what | measured | target, at most |
| --- | --- | --- |
${figures.join('\n')}

${unrest === '' ? `At rest, in ${bench.restSeconds} s, nothing was written.` : `At rest, in ${bench.restSeconds} s: ${unrest}.`}

## The operator's calls, from nothing to rest

| call | a deployment |
| --- | --- |
${calls.join('\n')}
`;
}
