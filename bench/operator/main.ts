// `npm run bench:operator`: what a thousand deployments cost the operator, and how soon they are ready. Writes bench/OPERATOR.md.
// The control plane is real, the nodes are kwok's, the routers' reports are simulated; all of it shares this machine.
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { cpus, availableParallelism, loadavg } from 'node:os';
import { MANAGER } from '../../operator/api.ts';
import { auditedCalls, startControlPlane, WRITES, type AuditedCall } from './control-plane.ts';
import { Deployments } from './deployments.ts';
import { bundleOperator, OperatorProcess } from './operator-process.ts';
import { page, type Figure } from './page.ts';
import { ROUTERS_USER_AGENT, SimulatedRouters } from './simulated-routers.ts';

const { values } = parseArgs({
  options: {
    deployments: { type: 'string', default: '1000' },
    'rest-seconds': { type: 'string', default: '60' },
    'node-flag': { type: 'string', multiple: true, default: [] },
    write: { type: 'boolean', default: false },
    keep: { type: 'boolean', default: false },
    help: { type: 'boolean', short: 'h', default: false },
  },
});
const RESULTS = new URL('../OPERATOR.md', import.meta.url);
/** What follows is a person's reading of the figures: kept from run to run, and to be gone over after each. */
const ANALYSIS = '\n## Where the seconds go\n';
const count = Number(values.deployments);
const restSeconds = Number(values['rest-seconds']);
if (values.help || !Number.isInteger(count) || count < 1 || !(restSeconds > 0)) {
  console.log(
    'usage: npm run bench:operator [-- --deployments N] [--rest-seconds S] [--node-flag FLAG]... [--keep]',
  );
  process.exit(values.help ? 0 : 2);
}
const say = (text: string) => console.error(`bench: ${text}`);
const seconds = (since: number) => (performance.now() - since) / 1000;

say('control plane');
const plane = await startControlPlane();
const routers = new SimulatedRouters(plane.kubeconfig);
const deployments = new Deployments(plane.kubeconfig);
let operator: OperatorProcess | undefined;
try {
  for (const namespace of Deployments.namespaces) await plane.kubectl(['create', 'namespace', namespace]);
  const program = await bundleOperator(join(plane.directory, 'image'));
  const log = join(plane.directory, 'log/operator.log');
  const operatorCalls = () => auditedCalls(plane.auditLog, MANAGER);
  const writesOf = (calls: readonly AuditedCall[]) =>
    calls.filter(({ verb, resource }) => WRITES.has(verb) && resource !== 'leases');

  operator = new OperatorProcess(program, plane.kubeconfig, log, values['node-flag']);
  await operator.ready();
  const empty = await operator.memory();
  routers.start();
  deployments.watch();

  say(`${count} deployments`);
  const planeBefore = await plane.cpuSeconds();
  const machineBefore = cpus();
  const ticker = setInterval(() => say(`${deployments.ready} ready`), 5000);
  const loadBefore = loadavg()[0] ?? 0;
  const begin = performance.now();
  await deployments.create(count);
  const created = seconds(begin);
  await deployments.untilReady(count);
  const ready = seconds(begin);
  clearInterval(ticker);
  const loadAfter = loadavg()[0] ?? 0;
  const readyCpu = await operator.cpuSeconds();
  const planeAfter = await plane.cpuSeconds();
  const planeCpu = [...planeAfter].map(([name, time]): [string, number] => [
    name,
    time - (planeBefore.get(name) ?? 0),
  ]);
  const busy = busySeconds(cpus()) - busySeconds(machineBefore);
  say(`all ready after ${ready.toFixed(1)} s`);

  await quiet(async () => writesOf(await operatorCalls()).length);
  const callsToRest = (await operatorCalls()).filter(({ resource }) => resource !== 'leases');
  const reports = (await auditedCalls(plane.auditLog, ROUTERS_USER_AGENT)).filter(({ verb }) =>
    WRITES.has(verb),
  );

  say(`${restSeconds} s at rest`);
  const restFrom = Date.now();
  const cpuFrom = await operator.cpuSeconds();
  await pause(restSeconds * 1000);
  const restCpu = ((await operator.cpuSeconds()) - cpuFrom) / restSeconds;
  const restWrites = writesOf(await operatorCalls()).filter(({ at }) => at >= restFrom);
  const memory = await operator.memory();

  say('restart');
  await operator.stop();
  const restartFrom = Date.now();
  operator = new OperatorProcess(program, plane.kubeconfig, log, values['node-flag']);
  const restart = performance.now();
  await operator.ready();
  const synced = seconds(restart);
  await operator.reconciled(count);
  const reconciled = seconds(restart);
  const restarted = await operator.memory();
  const restartWrites = writesOf(await operatorCalls()).filter(({ at }) => at >= restartFrom);

  const figures: Figure[] = [
    { what: 'first created to all Ready', value: ready, unit: 's', target: 150 },
    { what: 'of it, creating them (20 at once)', value: created, unit: 's' },
    { what: "operator's API calls a deployment until Ready", value: callsToRest.length / count, unit: '' },
    { what: 'of them, writes', value: writesOf(callsToRest).length / count, unit: '' },
    {
      what: "routers' reports a deployment (simulated, not in the above)",
      value: reports.length / count,
      unit: '',
    },
    { what: "operator's processor time until all Ready", value: readyCpu, unit: 's' },
    ...planeCpu
      .toSorted(([, a], [, b]) => b - a)
      .map(([name, time]): Figure => ({ what: `${name}'s in the same time`, value: time, unit: 's' })),
    { what: 'of all processors in the same time, whoever used them', value: busy, unit: 's' },
    {
      what: `writes a minute at rest (Lease left out)`,
      value: (restWrites.length * 60) / restSeconds,
      unit: '',
      target: 0,
    },
    { what: 'processor at rest, of one core', value: restCpu * 100, unit: '%', target: 5 },
    { what: 'RSS at rest', value: memory.nowMiB, unit: 'MiB', target: 150 },
    { what: 'RSS at most', value: memory.mostMiB, unit: 'MiB' },
    { what: 'RSS with no deployments', value: empty.nowMiB, unit: 'MiB' },
    { what: 'restart: process start to caches synced', value: synced, unit: 's' },
    { what: 'restart: to every deployment looked at', value: reconciled, unit: 's' },
    { what: 'restart: writes', value: restartWrites.length, unit: '', target: 0 },
    { what: 'restart: RSS at most', value: restarted.mostMiB, unit: 'MiB' },
  ];
  const calls = tally(callsToRest);
  const text = page({
    cpu: cpus()[0]?.model ?? 'unknown',
    cores: availableParallelism(),
    node: process.versions.node,
    kubernetes: await plane.version(),
    date: new Date().toISOString().slice(0, 10),
    deployments: count,
    restSeconds,
    load: [loadBefore, loadAfter],
    flags: values['node-flag'],
    figures,
    calls,
    unrest: tally(restWrites),
  });
  console.log(text);
  if (count >= 1000 || values.write) {
    const [, analysis = ''] = readFileSync(RESULTS, 'utf8').split(ANALYSIS);
    writeFileSync(RESULTS, text + ANALYSIS + analysis);
  }
} finally {
  await operator?.stop();
  await routers.stop();
  await deployments.stop();
  if (values.keep) say(`kept: STATE_DIR=${plane.directory} until this process ends`);
  else await plane.stop();
  rmSync(join(plane.directory, 'image'), { recursive: true, force: true });
}
process.exit(0);

/** Waits until a number has not changed for five looks, two seconds apart. */
async function quiet(look: () => Promise<number>): Promise<void> {
  let last = -1;
  for (let same = 0; same < 5;) {
    const now = await look();
    same = now === last ? same + 1 : 0;
    last = now;
    await pause(2000);
  }
}

function busySeconds(machine: ReturnType<typeof cpus>): number {
  return (
    machine.reduce((sum, { times: { user, nice, sys, irq } }) => sum + user + nice + sys + irq, 0) / 1000
  );
}

function tally(calls: readonly AuditedCall[]): [string, number][] {
  const counts = new Map<string, number>();
  for (const { verb, resource } of calls)
    counts.set(`${verb} ${resource}`, (counts.get(`${verb} ${resource}`) ?? 0) + 1);
  return [...counts].toSorted(([, a], [, b]) => b - a);
}
