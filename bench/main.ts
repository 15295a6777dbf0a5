// `npm run bench`: what this machine does, next to what it could do. Writes bench/RESULTS.md.
import { writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { parseArgs } from 'node:util';
import { native } from '../runtime/native/index.ts';
import { benchEngine } from './engine.ts';
import { benchEngineLoop } from './engine-loop.ts';
import { readBandwidth } from './read-bandwidth.ts';
import { page, table, type Machine, type Row } from './results.ts';
import { benchRouter } from './router.ts';
import { benchRouterLatency } from './router-latency.ts';
import { benchWeightsLoading } from './weights-loading.ts';

const { values } = parseArgs({
  options: {
    only: { type: 'string' },
    json: { type: 'string' },
    help: { type: 'boolean', short: 'h', default: false },
  },
});
if (values.help || (values.only !== undefined && !['engine', 'router'].includes(values.only))) {
  console.log('usage: npm run bench [-- --only engine|router] [--json FILE]');
  process.exit(values.help ? 0 : 2);
}

const say = (text: string) => console.error(`bench: ${text}`);
say('read bandwidth');
const bandwidth = await readBandwidth();
const { model, isa } = native().cpuInfo();
const machine: Machine = {
  cpu: model,
  cores: availableParallelism(),
  isa,
  readBandwidth: bandwidth,
  node: process.versions.node,
};
const rows: Row[] = [];
if (values.only !== 'router') {
  for (const [dtype, quantization] of [
    ['bfloat16', 'none'],
    ['bfloat16', 'int8'],
    ['float32', 'none'],
  ] as const) {
    say(`engine, ${dtype}, quantization ${quantization}`);
    rows.push(...benchEngine(dtype, quantization, bandwidth));
  }
  say('weights loading');
  rows.push(...(await benchWeightsLoading()));
  say('engine loop');
  rows.push(...(await benchEngineLoop()));
}
if (values.only !== 'engine') {
  say('router');
  rows.push(...(await benchRouter()), ...(await benchRouterLatency()));
}
console.log(`${machine.cpu}, ${machine.cores} cores, ${isa}, ${(bandwidth / 1e9).toFixed(1)} GB/s\n`);
console.log(table(rows));
if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify({ machine, rows }, null, 2)}\n`);
if (values.only === undefined)
  writeFileSync(new URL('RESULTS.md', import.meta.url), page(machine, rows, 'npm run bench'));
