// `node gpu-check/write-page.ts FOUND.json`: the benches that a run of gpu-check wrote down, as a section of bench/RESULTS.md.
import { readFileSync, writeFileSync } from 'node:fs';
import { mergeSections, type PageSection } from '../bench/page-sections.ts';
import { HEAD, table } from '../bench/results.ts';
import type { Row } from './rows.ts';

const PAGE = new URL('../bench/RESULTS.md', import.meta.url);

/** Undefined when there is no bench among the rows. */
export function gpuSection(rows: readonly Row[]): PageSection | undefined {
  const benches = rows.filter((row) => row.kind === 'bench');
  const device = rows.find((row) => row.kind === 'device');
  const machine = rows.find((row) => row.kind === 'machine');
  if (benches.length === 0 || device === undefined || machine === undefined) return undefined;
  const memory = (device.totalBytes / 2 ** 30).toFixed(0);
  const body = `\`gpu-check --bench\` (docs/cuda.md) on one ${device.name} of ${memory} GiB, ${machine.cpu} with ${machine.cores} cores, Node ${machine.node};
${machine.packages.join(', ')}. The least time of a forward pass is what it must read by a copy's bandwidth, or its operations by a large product's
speed, whichever takes longer.

${table(benches)}`;
  return { title: `GPU, ${device.name}`, body };
}

if (import.meta.main) {
  const [file] = process.argv.slice(2);
  const section =
    file === undefined ? undefined : gpuSection(JSON.parse(readFileSync(file, 'utf8')) as Row[]);
  if (section === undefined) {
    process.stderr.write('usage: node gpu-check/write-page.ts FOUND.json, which has benches in it\n');
    process.exitCode = 2;
  } else {
    writeFileSync(PAGE, mergeSections(readFileSync(PAGE, 'utf8'), HEAD, [section]));
  }
}
