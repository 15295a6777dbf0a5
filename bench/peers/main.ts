// `npm run bench:peers`: ours beside other engines and routers on this machine. Writes its sections of bench/PEERS.md.
import { readFileSync, writeFileSync } from 'node:fs';
import { availableParallelism, loadavg } from 'node:os';
import { Command, Option } from 'commander';
import { parseCount } from '../../cli/option-parsers.ts';
import { native } from '../../runtime/native/index.ts';
import { commandOf, holdTo, ISA_LIMITS, type IsaLimit } from '../isa-limit.ts';
import { engineTitle, mergeSections, ROUTER_TITLE } from '../page-sections.ts';
import { readBandwidth } from '../read-bandwidth.ts';
import { compareEngines } from './engine.ts';
import { peerSection, PEERS_HEAD, type Comparison, type PeerMachine } from './page.ts';
import { compareRouters } from './router.ts';
import { peerTable } from './rows.ts';

interface Flags {
  only?: 'engine' | 'router';
  isa?: IsaLimit;
  threads: number;
  json?: string;
}

const say = (text: string) => console.error(`bench: ${text}`);

const program = new Command('bench:peers')
  .description(
    'Measures other engines and routers beside ours; installs them first (PyTorch: some GB, once).',
  )
  .addOption(
    new Option('--only <half>', 'leaves the other half of bench/PEERS.md as it is').choices([
      'engine',
      'router',
    ]),
  )
  .addOption(
    new Option(
      '--isa <limit>',
      "measures the engines, each with an instruction set less than the machine's best",
    ).choices(ISA_LIMITS),
  )
  .option('--threads <n>', 'of each engine', parseCount, availableParallelism())
  .option('--json <file>', 'the rows');

program.action(async ({ only, isa: isaLimit, threads, json }: Flags) => {
  if (only === 'router' && isaLimit !== undefined) program.error('--isa is for engines');
  holdTo(isaLimit);
  const before = loadavg()[0] ?? 0;
  say('read bandwidth');
  const bandwidth = readBandwidth(threads);
  const { model, isa } = native().cpuInfo();
  const halves: [title: string, Comparison][] = [];
  const withNode = ({ versions, ...rest }: Comparison): Comparison => ({
    ...rest,
    versions: { Node: process.versions.node, ...versions },
  });
  if (only !== 'router') {
    const options = { threads, isaLimit, say };
    halves.push([engineTitle(isa), withNode(await compareEngines(options))]);
  }
  if (only !== 'engine' && isaLimit === undefined)
    halves.push([ROUTER_TITLE, withNode(await compareRouters(say))]);
  const machine: PeerMachine = {
    cpu: model,
    isa,
    cores: availableParallelism(),
    threads,
    readBandwidth: bandwidth,
    load: [before, loadavg()[0] ?? 0],
  };
  const rows = halves.flatMap(([, { rows }]) => rows);
  const missing = halves.flatMap(([, { missing }]) => missing);
  console.log(peerTable(rows));
  for (const { peer, reason } of missing) console.log(`not measured: ${peer}: ${reason}`);
  if (json !== undefined) {
    const versions = Object.assign({}, ...halves.map(([, { versions }]) => versions)) as Record<
      string,
      string
    >;
    writeFileSync(json, `${JSON.stringify({ machine, versions, rows, missing }, null, 2)}\n`);
  }
  const file = new URL('../PEERS.md', import.meta.url);
  const command = commandOf('bench:peers', isaLimit);
  const sections = halves.map(([title, comparison]) => peerSection(title, command, machine, comparison));
  writeFileSync(file, mergeSections(readFileSync(file, 'utf8'), PEERS_HEAD, sections));
});

await program.parseAsync();
