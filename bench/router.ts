// What the router costs: one router process in front of two simulated replicas (the real scheduler and session protocol, no weights), and
// many streams through it. Its CPU time comes from the operating system, so nothing in it measures itself.
import { randomBytes } from 'node:crypto';
import { credentials } from '@grpc/grpc-js';
import {
  InferenceClient,
  Role,
  type GenerateRequest,
  type Image,
  type Part,
} from '../gen/proto/internvl/v1/inference.ts';
import { uploadPicture } from '../cli/upload.ts';
import { LOOP_TURNS, loopTurns } from './event-loop.ts';
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

const question: Part = { part: { $case: 'text', value: 'How many shapes are there?' } };

const request = (maxTokens: number, parts: readonly Part[] = [question]): GenerateRequest => ({
  requestId: '',
  model: '',
  messages: [{ role: Role.USER, parts: [...parts] }],
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
    const replicas = [await startReplica(SIMULATION), await startReplica(SIMULATION)];
    servers.push(...replicas);
    const router = await startRouter(replicas);
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
    rows.push(...(await benchLoop(replicas)));
    return rows;
  } finally {
    await Promise.all(servers.map(stop));
  }
}

/** How long one router keeps its streams waiting: while it is busy, and while large pictures pass. */
async function benchLoop(replicas: readonly Server[]): Promise<Row[]> {
  const nodeArgs = ['--import', `data:text/javascript,${encodeURIComponent(LOOP_TURNS)}`];
  const router = await startRouter(replicas, [], nodeArgs);
  const client = new InferenceClient(router.address, credentials.createInsecure());
  try {
    await ready(client);
    const streams = (count: number): Promise<unknown> =>
      Promise.all(Array.from({ length: count }, () => stream(client, TOKENS_PER_STREAM)));
    await streams(256);
    await loopTurns(router);
    await streams(256);
    const busy = await loopTurns(router);
    const inRequest = (file: Buffer): Promise<Image> =>
      Promise.resolve({ source: { $case: 'data', value: file } });
    const uploaded = async (file: Buffer): Promise<Image> => ({
      source: { $case: 'hash', value: await uploadPicture(client, file) },
    });
    const heldUpBy = async (send: (file: Buffer) => Promise<Image>): Promise<number> => {
      const picture = async (): Promise<void> => {
        const image: Part = { part: { $case: 'image', value: await send(bitmap()) } };
        // Whether the replica can show it to a model does not matter here.
        await new Promise<void>((resolve) =>
          client.generateOnce(request(1, [question, image]), () => resolve()),
        );
      };
      await picture();
      await loopTurns(router);
      const others = streams(16);
      for (let i = 0; i < 5; i++) await picture();
      await others;
      return (await loopTurns(router)).max;
    };
    const whole = await heldUpBy(inRequest);
    const inPieces = await heldUpBy(uploaded);
    return [
      {
        metric: 'router, event loop held up, CPU time, p99',
        shape: '256 streams',
        unit: 'ms',
        value: busy.p99,
      },
      {
        metric: 'router, event loop held up, CPU time, at most',
        shape: '16 streams, 5 pictures of 20 MB in their requests',
        unit: 'ms',
        value: whole,
      },
      {
        metric: 'router, event loop held up, CPU time, at most',
        shape: '16 streams, 5 pictures of 20 MB by PutImage',
        unit: 'ms',
        value: inPieces,
      },
    ];
  } finally {
    client.close();
    await stop(router);
  }
}

/** A BMP file of 20 MB. */
function bitmap(): Buffer {
  const [width, height, header] = [2560, 2600, 54];
  const file = randomBytes(header + width * height * 3);
  file.fill(0, 0, header);
  file.write('BM');
  file.writeUInt32LE(file.length, 2);
  file.writeUInt32LE(header, 10);
  file.writeUInt32LE(40, 14);
  file.writeInt32LE(width, 18);
  file.writeInt32LE(height, 22);
  file.writeUInt16LE(1, 26);
  file.writeUInt16LE(24, 28);
  return file;
}
