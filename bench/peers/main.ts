// `npm run bench:peers`: ours beside other engines and routers on this machine. Writes bench/PEERS.md.
import { writeFileSync } from 'node:fs';
import { availableParallelism, loadavg } from 'node:os';
import { Command, Option } from 'commander';
import { parseCount } from '../../cli/option-parsers.ts';
import { native } from '../../runtime/native/index.ts';
import { readBandwidth } from '../read-bandwidth.ts';
import { compareEngines, type Comparison } from './engine.ts';
import { compareRouters } from './router.ts';
import { peerPage, peerTable, type PeerMachine } from './rows.ts';

interface Flags {
  only?: 'engine' | 'router';
  threads: number;
  json?: string;
}

const say = (text: string) => console.error(`bench: ${text}`);

const program = new Command('bench:peers')
  .description(
    'Measures other engines and routers beside ours; installs them first (PyTorch: some GB, once).',
  )
  .addOption(new Option('--only <half>', 'leaves bench/PEERS.md as it is').choices(['engine', 'router']))
  .option('--threads <n>', 'of each engine', parseCount, availableParallelism())
  .option('--json <file>', 'the rows');

program.action(async ({ only, threads, json }: Flags) => {
  const before = loadavg()[0] ?? 0;
  say('read bandwidth');
  const bandwidth = await readBandwidth(threads);
  const halves: Comparison[] = [];
  if (only !== 'router') halves.push(await compareEngines({ threads, bandwidth, say }));
  if (only !== 'engine') halves.push(await compareRouters(say));
  const { model, isa } = native().cpuInfo();
  const machine: PeerMachine = {
    cpu: model,
    isa,
    cores: availableParallelism(),
    threads,
    readBandwidth: bandwidth,
    load: [before, loadavg()[0] ?? 0],
  };
  const sections = halves.flatMap(({ sections }) => sections);
  const missing = halves.flatMap(({ missing }) => missing);
  const versions: Record<string, string> = Object.assign(
    { Node: process.versions.node },
    ...halves.map(({ versions }) => versions),
  );
  const rows = sections.flatMap(({ rows }) => rows);
  console.log(peerTable(rows));
  for (const { peer, reason } of missing) console.log(`not measured: ${peer}: ${reason}`);
  if (json !== undefined)
    writeFileSync(json, `${JSON.stringify({ machine, versions, rows, missing }, null, 2)}\n`);
  if (only === undefined)
    writeFileSync(
      new URL('../PEERS.md', import.meta.url),
      peerPage('npm run bench:peers', machine, versions, sections, missing),
    );
});

await program.parseAsync();
