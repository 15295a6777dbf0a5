// Processes under measurement: started, waited for, and asked of the operating system what they cost, so that nothing in them measures itself.
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createInterface, type Interface } from 'node:readline';
import { ROUTER_MEMORY } from '../operator/resources/router-memory.ts';

const TICKS_PER_SECOND = 100;
/** Bundled, sources have become programs of the same names. */
const SUFFIX = import.meta.filename.slice(-3);
const ROUTER = new URL(`../router/main${SUFFIX}`, import.meta.url).pathname;
const RUNTIME = new URL(`../runtime/main${SUFFIX}`, import.meta.url).pathname;
const MODEL = new URL('../examples/demo-model', import.meta.url).pathname;

/** A process of ours; `address` is where it listens. */
export interface Server {
  readonly child: ChildProcess;
  readonly address: string;
  /** Its log, and the line of it that said that the process was ready. */
  readonly lines: Interface;
  readonly started: Readonly<Record<string, unknown>>;
}

/** Options of the runtime's --simulate: a step takes stepUs whatever its batch. */
export interface Simulation {
  readonly stepUs: number;
  readonly stepUsPerSequence: number;
  readonly prefillUsPerToken: number;
  readonly maxSequences: number;
  readonly maxBatchedTokens?: number;
  readonly kvBlocks: number;
}

/** 10 ms a step: 100 tokens a second and stream. */
export const SIMULATION: Simulation = {
  stepUs: 10_000,
  stepUsPerSequence: 0,
  prefillUsPerToken: 0,
  maxSequences: 256,
  kvBlocks: 65_536,
};

/** Starts one of our programs and waits for its log line `message`. */
export async function startNode(
  file: string,
  args: readonly string[],
  message: string,
  nodeArgs: readonly string[] = [],
  environment: Readonly<Record<string, string>> = {},
): Promise<Server> {
  const child = spawn(process.execPath, [...nodeArgs, file, ...args], {
    env: { ...process.env, ...environment },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  // Reading goes on for as long as the process lives: a closed pipe would end it.
  const lines = createInterface({ input: child.stdout });
  return await new Promise<Server>((resolve, reject) => {
    let address = '';
    let last = 'nothing';
    lines.on('line', (line) => {
      last = line;
      const event = JSON.parse(line) as { message?: string; address?: string };
      if (event.message === 'listening') address = event.address ?? '';
      if (event.message === message) resolve({ child, address, lines, started: event });
    });
    lines.on('close', () => reject(new Error(`${file} ended before it said "${message}"; it said ${last}`)));
  });
}

/** A replica with the real scheduler and session protocol and without weights. */
export async function startReplica(simulation: Simulation): Promise<Server> {
  return await startRuntime(['--model', MODEL, '--simulate', JSON.stringify(simulation)]);
}

/** A replica of one rank. */
export async function startRuntime(flags: readonly string[]): Promise<Server> {
  const args = ['--served-name', 'bench', '--rank', '0', '--world-size', '1', '--listen', '127.0.0.1:0'];
  return await startNode(RUNTIME, [...args, ...flags], 'serving');
}

/** With the memory settings of a deployed one. */
export async function startRouter(
  replicas: readonly Server[],
  flags: readonly string[] = [],
  nodeArgs: readonly string[] = [],
): Promise<Server> {
  const named = replicas.flatMap(({ address }, i) => ['--replica', `r${i}=${address}`]);
  const args = ['--listen', '127.0.0.1:0', ...named, ...flags];
  return await startNode(ROUTER, args, 'listening', nodeArgs, ROUTER_MEMORY);
}

/** Ends a process and waits for its end. */
export async function stop({ child }: { readonly child: ChildProcess }): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.kill('SIGTERM');
  await once(child, 'exit');
}

/** User and system CPU seconds of a process so far. */
export function cpuSeconds(pid: number): number {
  return secondsIn(`/proc/${pid}/stat`);
}

/** Those of the thread that runs its event loop. */
export function loopSeconds(pid: number): number {
  return secondsIn(`/proc/${pid}/task/${pid}/stat`);
}

/** Seconds that this thread could have run and had no core: other processes' doing, not its own. 0 where the kernel does not count them. */
export function coreWaitSeconds(pid: number): number {
  try {
    return Number(readFileSync(`/proc/${pid}/task/${pid}/schedstat`, 'utf8').split(' ')[1]) / 1e9;
  } catch {
    return 0;
  }
}

function secondsIn(file: string): number {
  const stat = readFileSync(file, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}

export function residentMiB(pid: number): number {
  const kib = /^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
  return Number(kib) / 1024;
}
