// `npm run bench`: what this machine does, next to what it could do. Writes its sections of bench/RESULTS.md.
import { readFileSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { parseArgs } from 'node:util';
import { native } from '../runtime/native/index.ts';
import { benchEngine } from './engine.ts';
import { benchEngineLoop } from './engine-loop.ts';
import { commandOf, holdTo, ISA_LIMITS } from './isa-limit.ts';
import { engineTitle, mergeSections, ROUTER_TITLE } from './page-sections.ts';
import { readBandwidth } from './read-bandwidth.ts';
import { HEAD, section, table, type Machine, type Row } from './results.ts';
import { benchRouter } from './router.ts';
import { benchRouterLatency } from './router-latency.ts';
import { benchSampling } from './sampling.ts';
import { benchTensorParallel } from './tensor-parallel.ts';
import { benchWeightsLoading } from './weights-loading.ts';

const HALVES = ['engine', 'router'] as const;

const { values } = parseArgs({
  options: {
    only: { type: 'string' },
    isa: { type: 'string' },
    json: { type: 'string' },
    help: { type: 'boolean', short: 'h', default: false },
  },
});
const only = HALVES.find((half) => half === values.only);
const isaLimit = ISA_LIMITS.find((limit) => limit === values.isa);
const nothing = only === 'router' && isaLimit !== undefined;
if (values.help || values.only !== only || values.isa !== isaLimit || nothing) {
  console.log(`usage: npm run bench [-- --only ${HALVES.join('|')}] [--isa ${ISA_LIMITS.join('|')}] [--json FILE]

--only leaves the other half of bench/RESULTS.md as it is; --isa measures the engine with an instruction set less than the machine's best.`);
  process.exit(values.help ? 0 : 2);
}
holdTo(isaLimit);

const say = (text: string) => console.error(`bench: ${text}`);
say('read bandwidth');
const bandwidth = readBandwidth();
const { model, isa } = native().cpuInfo();
const machine: Machine = {
  cpu: model,
  cores: availableParallelism(),
  isa,
  readBandwidth: bandwidth,
  node: process.versions.node,
};
const engine: Row[] = [];
const router: Row[] = [];
if (only !== 'router') {
  for (const [dtype, quantization] of [
    ['bfloat16', 'none'],
    ['bfloat16', 'int8'],
    ['float32', 'none'],
  ] as const) {
    say(`engine, ${dtype}, quantization ${quantization}`);
    engine.push(...benchEngine(dtype, quantization));
  }
  say('weights loading');
  engine.push(...(await benchWeightsLoading()));
  say('tensor parallel');
  engine.push(...(await benchTensorParallel()));
  say('sampling');
  engine.push(...benchSampling());
  say('engine loop');
  engine.push(...(await benchEngineLoop()));
}
if (only !== 'engine' && isaLimit === undefined) {
  say('router');
  router.push(...(await benchRouter()), ...(await benchRouterLatency()));
}
const rows = [...engine, ...router];
console.log(`${machine.cpu}, ${machine.cores} cores, ${isa}, ${(bandwidth / 1e9).toFixed(1)} GB/s\n`);
console.log(table(rows));
if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify({ machine, rows }, null, 2)}\n`);
const file = new URL('RESULTS.md', import.meta.url);
const command = commandOf('bench', isaLimit);
const sections = [];
if (engine.length > 0) sections.push(section(engineTitle(isa), machine, engine, command));
if (router.length > 0) sections.push(section(ROUTER_TITLE, machine, router, command));
writeFileSync(file, mergeSections(readFileSync(file, 'utf8'), HEAD, sections));
