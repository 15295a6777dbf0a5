// What the router costs: one router process in front of two simulated replicas (the real scheduler and session protocol, no weights), and
// many streams through it. Its CPU time comes from the operating system, so nothing in it measures itself.
import { credentials } from '@grpc/grpc-js';
import { InferenceClient, Role, type GenerateRequest } from '../gen/proto/internvl/v1/inference.ts';
import {
  cpuSeconds,
  residentMiB,
  SIMULATION,
  startReplica,
  startRouter,
  stop,
  type Server,
} from './processes.ts';
import type { Row } from './results.ts';

const TOKENS_PER_STREAM = 400;

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
    for (let i = 0; i < 2; i++) servers.push(await startReplica(SIMULATION));
    const router = await startRouter(servers);
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
