// A preflight's report for people.
import type { GateResult } from '../runtime/preflight/gate.ts';
import { failedGates, problemsOf, type PreflightReport } from '../runtime/preflight/report.ts';
import { formatBytes } from './inspect.ts';
import { table } from './table.ts';

type Style = (format: 'bold' | 'dim' | 'red' | 'green', text: string) => string;

const STATES = { pass: 'open', fail: 'SHUT', notApplicable: '-' } as const;

export function formatPreflight(report: PreflightReport, style: Style, aligned: boolean): string {
  const { worldSize, backend, path, pairs, allReduce } = report;
  const lines = [
    style('bold', `${worldSize} ranks on ${backend === 'cuda' ? 'GPUs' : 'CPUs'}, slowest path ${path}`),
    '',
    ...gateLines(report.gates, style, aligned),
    '',
    ...table(
      ['ranks', 'path', 'each way', 'latency'],
      pairs.map((pair) => [
        `${pair.first} and ${pair.second}`,
        pair.path === '' ? '-' : pair.path,
        rate(pair.gigabytesPerSecond),
        duration(pair.latencyUs),
      ]),
      aligned,
    ),
    '',
    ...table(
      ['all-reduce', 'takes', 'each link carries'],
      allReduce.map(({ bytes, us, busGigabytesPerSecond }, index) => [
        index === 0 ? `${formatBytes(bytes)} (one token)` : formatBytes(bytes),
        duration(us),
        rate(busGigabytesPerSecond),
      ]),
      aligned,
    ),
    '',
    verdict(report, style),
  ];
  return `${lines.join('\n')}\n`;
}

/** One line where none applies: why is the same for all. */
function gateLines(gates: readonly GateResult[], style: Style, aligned: boolean): string[] {
  const [first] = gates;
  if (first === undefined) return ['gates: not checked, since a rank sent no facts'];
  if (gates.every(({ found }) => found === first.found)) return [`gates: not applicable, ${first.found}`];
  const rows = gates.map(({ gate, outcome, found }) => [gate, STATES[outcome], found]);
  const [head = '', ...lines] = table(['gate', 'state', 'found'], rows, aligned);
  return [
    head,
    ...lines.flatMap((line, index) => {
      const { outcome, change } = gates[index]!;
      if (outcome === 'fail') return [style('red', line), `  change: ${change}`];
      return [outcome === 'pass' ? line : style('dim', line)];
    }),
  ];
}

function verdict(report: PreflightReport, style: Style): string {
  const problems = problemsOf(report);
  const shut = failedGates(report).length;
  if (shut > 0)
    return style(
      'red',
      `${shut} ${shut === 1 ? 'gate is' : 'gates are'} shut: devices do not reach each other directly`,
    );
  if (problems.length > 0) return style('red', problems.join('\n'));
  if (report.direct) return style('green', 'every rank reaches the devices of all others directly');
  return report.gpus > 0
    ? 'every gate is open; ranks that compute on CPUs exchange over TCP'
    : 'ranks without GPUs exchange over TCP: nothing to change';
}

function rate(gigabytesPerSecond: number): string {
  return `${digits(gigabytesPerSecond)} GB/s`;
}

function duration(us: number): string {
  return us >= 1000 ? `${digits(us / 1000)} ms` : `${digits(us)} us`;
}

function digits(value: number): string {
  return value >= 100 ? value.toFixed(0) : value.toPrecision(3);
}
