// What the router costs: one router process in front of two simulated replicas (the real scheduler and session protocol, no weights), and
// many streams through it. Its CPU time comes from the operating system, so nothing in it measures itself.
import { spawn, type ChildProcess } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { credentials } from '@grpc/grpc-js';
import { InferenceClient, Role, type GenerateRequest } from '../gen/proto/internvl/v1/inference.ts';
import type { Row } from './results.ts';

const MODEL = new URL('../examples/demo-model', import.meta.url).pathname;
const TICKS_PER_SECOND = 100;
const TOKENS_PER_STREAM = 400;
// 10 ms a step whatever the batch: 100 tokens a second and stream.
const SIMULATION = {
  stepUs: 10_000,
  stepUsPerSequence: 0,
  prefillUsPerToken: 0,
  maxSequences: 256,
  kvBlocks: 65_536,
};

interface Server {
  readonly child: ChildProcess;
  readonly address: string;
}

/** Starts a process and waits for its log line `message`. */
async function start(file: string, args: readonly string[], message: string): Promise<Server> {
  const child = spawn(process.execPath, [new URL(file, import.meta.url).pathname, ...args], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  // Reading goes on for as long as the process lives: a closed pipe would end it.
  const lines = createInterface({ input: child.stdout });
  return await new Promise<Server>((resolve, reject) => {
    let address = '';
    lines.on('line', (line) => {
      const event = JSON.parse(line) as { message?: string; address?: string };
      if (event.message === 'listening') address = event.address ?? '';
      if (event.message === message) resolve({ child, address });
    });
    lines.on('close', () => reject(new Error(`${file} ended before it said "${message}"`)));
  });
}

async function stop({ child }: Server): Promise<void> {
  if (child.exitCode !== null) return;
  child.kill('SIGTERM');
  await once(child, 'exit');
}

/** User and system CPU seconds of a process so far. */
function cpuSeconds(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}

function residentMiB(pid: number): number {
  const kib = /^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
  return Number(kib) / 1024;
}

const request = (maxTokens: number): GenerateRequest => ({
  requestId: '',
  model: '',
  messages: [{ role: Role.USER, parts: [{ part: { $case: 'text', value: 'How many shapes are there?' } }] }],
  sampling: { maxTokens, temperature: 0, stop: [], stopTokenIds: [], ignoreEos: true },
  output: undefined,
  priority: 0,
  affinityKey: '',
  cacheSalt: '',
});

/** Runs one stream to its end and counts its tokens. */
function stream(client: InferenceClient, maxTokens: number): Promise<number> {
  return new Promise((resolve, reject) => {
    let tokens = 0;
    const call = client.generate(request(maxTokens));
    call.on('data', ({ event }) => {
      if (event?.$case === 'delta') tokens += event.value.tokenIds.length;
    });
    call.on('error', reject);
    call.on('end', () => resolve(tokens));
  });
}

async function ready(client: InferenceClient): Promise<void> {
  for (;;) {
    const outcome = await stream(client, 1).catch((err: unknown) => err);
    if (typeof outcome === 'number') return;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

/** Router CPU per streamed token at several numbers of streams, its memory, and its CPU per unary request. */
export async function benchRouter(): Promise<Row[]> {
  const rows: Row[] = [];
  const servers: Server[] = [];
  try {
    for (let i = 0; i < 2; i++) {
      const args = ['--model', MODEL, '--served-name', 'bench', '--rank', '0', '--world-size', '1'];
      args.push('--listen', '127.0.0.1:0', '--simulate', JSON.stringify(SIMULATION));
      servers.push(await start('../runtime/main.ts', args, 'serving'));
    }
    const replicas = servers.flatMap(({ address }, i) => ['--replica', `r${i}=${address}`]);
    const router = await start('../router/main.ts', ['--listen', '127.0.0.1:0', ...replicas], 'listening');
    servers.push(router);
    const pid = router.child.pid as number;
    const client = new InferenceClient(router.address, credentials.createInsecure());
    await ready(client);
    rows.push({ metric: 'router at rest', shape: '2 replicas', unit: 'MiB RSS', value: residentMiB(pid) });

    for (const streams of [64, 256]) {
      await Promise.all(Array.from({ length: streams }, () => stream(client, 20)));
      const begin = performance.now();
      const before = cpuSeconds(pid);
      const counts = await Promise.all(
        Array.from({ length: streams }, () => stream(client, TOKENS_PER_STREAM)),
      );
      const tokens = counts.reduce((sum, count) => sum + count, 0);
      const cpu = cpuSeconds(pid) - before;
      const rate = (tokens / (performance.now() - begin)) * 1000;
      rows.push({
        metric: 'router, CPU per streamed token',
        shape: `${streams} streams, ${rate.toFixed(0)} tokens/s`,
        unit: 'µs',
        value: (1e6 * cpu) / tokens,
      });
    }

    const requests = 2000;
    const before = cpuSeconds(pid);
    let left = requests;
    const worker = async () => {
      while (left-- > 0) {
        await new Promise<void>((resolve, reject) =>
          client.generateOnce(request(1), (err) => (err === null ? resolve() : reject(err))),
        );
      }
    };
    await Promise.all(Array.from({ length: 64 }, worker));
    rows.push({
      metric: 'router, CPU per unary request of 1 token',
      shape: '64 in flight',
      unit: 'µs',
      value: (1e6 * (cpuSeconds(pid) - before)) / requests,
    });
    client.close();
    return rows;
  } finally {
    await Promise.all(servers.map(stop));
  }
}
