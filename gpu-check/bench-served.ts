// A replica on a device behind a router, as it is deployed: processes, sockets, pictures drawn for each request. First one request at a time, then
// as many as the replica takes, then Poisson arrivals at a share of that.
import { credentials } from '@grpc/grpc-js';
import { Ahead } from '../bench/load/ahead.ts';
import type { Limits } from '../bench/load/goodput.ts';
import { runLoad, type Load } from '../bench/load/load.ts';
import type { Measured } from '../bench/load/measurement.ts';
import { Workload, type WorkloadOptions } from '../bench/load/workload.ts';
import { startRouter, startRuntime, stop, type Server } from '../bench/processes.ts';
import type { Row } from '../bench/results.ts';
import { InferenceClient } from '../gen/proto/internvl/v1/inference.ts';
import { clientChannelOptions } from '../rpc/channel.ts';

export interface ServedBenchOptions {
  /** Flags of the runtime: which model, device and sizes. */
  readonly runtime: readonly string[];
  /** What rows call it. */
  readonly name: string;
  /** Of Poisson arrivals; the other loads last a sixth of it. */
  readonly durationMs: number;
  /** Of the load that finds out what the replica takes. */
  readonly concurrency: number;
  readonly say: (text: string) => void;
}

/** Poisson arrivals come at this share of the requests that were answered at full load. */
const SHARE = 0.7;
const CONNECTIONS = 8;
const TIMEOUT_MS = 120_000;
const LIMITS: Limits = { ttft: 2000, tpot: 100 };
/** One picture and about 500 tokens; then half of the requests with a picture, and shorter questions. */
const ALONE: WorkloadOptions = work({ pictures: 1, promptWords: 235, outputTokens: 64, seed: 1 });
const MIXED: WorkloadOptions = work({ pictures: 0.5, promptWords: 100, outputTokens: 128, seed: 2 });

export async function benchServed(options: ServedBenchOptions): Promise<Row[]> {
  const { runtime, name, durationMs, concurrency, say } = options;
  const servers: Server[] = [];
  try {
    const replica = await startRuntime(runtime);
    servers.push(replica);
    const router = await startRouter([replica]);
    servers.push(router);
    const run = (load: Load, workload: WorkloadOptions, ms: number): Promise<Measured> =>
      measure(router.address, load, workload, ms, say);
    await run({ kind: 'closed', concurrency: 2 }, ALONE, durationMs / 12); // the first of everything
    const alone = await run({ kind: 'closed', concurrency: 1 }, { ...ALONE, seed: 3 }, durationMs / 6);
    const full = await run({ kind: 'closed', concurrency }, MIXED, durationMs / 6);
    const rate = SHARE * full.requestsPerSecond;
    const mixed = await run({ kind: 'open', rate }, { ...MIXED, seed: 4 }, durationMs);
    return [
      ...phaseRows(replica, name),
      ...timeRows(alone, `${name}, one request at a time, ${usageOf(alone)}`),
      ...throughputRows(full, `${name}, ${concurrency} requests at a time, ${usageOf(full)}`),
      ...throughputRows(mixed, poisson(name, mixed, rate, durationMs)),
      ...timeRows(mixed, poisson(name, mixed, rate, durationMs)),
    ];
  } finally {
    await Promise.all(servers.map(stop));
  }
}

function work(options: Omit<WorkloadOptions, 'mixes'>): WorkloadOptions {
  return { mixes: new Map([['unique', 1]]), ...options };
}

async function measure(
  address: string,
  load: Load,
  options: WorkloadOptions,
  durationMs: number,
  say: (text: string) => void,
): Promise<Measured> {
  const clients = Array.from(
    { length: CONNECTIONS },
    () =>
      new InferenceClient(
        address,
        credentials.createInsecure(),
        clientChannelOptions({ maxMessageBytes: 64 << 20, ownConnection: true }),
      ),
  );
  const workload = new Workload(options);
  const ahead = new Ahead((index) => workload.request(index));
  const what = load.kind === 'open' ? `${load.rate.toFixed(2)} requests/s` : `${load.concurrency} at a time`;
  say(`served, ${what}`);
  try {
    return await runLoad(load, {
      clients,
      next: () => ahead.next(),
      warmUpMs: durationMs / 6,
      durationMs,
      timeoutMs: TIMEOUT_MS,
      seed: BigInt(options.seed),
      limits: LIMITS,
      signal: new AbortController().signal,
      progress: ({ elapsedMs, sent, ended }) =>
        say(`served, ${what}: ${(elapsedMs / 1000).toFixed(0)} s, ${sent} sent, ${sent - ended} under way`),
    });
  } finally {
    for (const client of clients) client.close();
  }
}

/** What the replica's start took, as its log says. */
function phaseRows({ started }: Server, name: string): Row[] {
  const { startupMs = {} } = started as { readonly startupMs?: Readonly<Record<string, number>> };
  return Object.entries(startupMs).map(([phase, ms]) => ({
    metric: `served, start-up, ${phase}`,
    shape: name,
    unit: 's',
    value: ms / 1000,
  }));
}

function throughputRows(measured: Measured, shape: string): Row[] {
  const { tokensPerSecond, requestsPerSecond, goodput, requests, answered } = measured;
  const rows: Row[] = [
    { metric: 'served, tokens', shape, unit: 'tokens/s', value: tokensPerSecond },
    { metric: 'served, answers', shape, unit: 'requests/s', value: requestsPerSecond },
    { metric: 'served, requests without an answer', shape, unit: 'requests', value: requests - answered },
  ];
  const limits = Object.entries(LIMITS).map(([limit, ms]) => `${limit} ${ms} ms`);
  if (goodput !== null)
    rows.push({
      metric: `served, goodput (${limits.join(', ')})`,
      shape,
      unit: '%',
      value: 100 * goodput.share,
    });
  return rows;
}

function timeRows({ ttft, itl }: Measured, shape: string): Row[] {
  const row = (metric: string, value: number): Row => ({
    metric: `served, ${metric}`,
    shape,
    unit: 'ms',
    value,
  });
  return [
    ...(ttft === null ? [] : [row('first token, p50', ttft.p50), row('first token, p99', ttft.p99)]),
    ...(itl === null ? [] : [row('between tokens, p50', itl.p50), row('between tokens, p99', itl.p99)]),
  ];
}

function usageOf({ usage: { promptTokens, imageTokens } }: Measured): string {
  return `${promptTokens.toFixed(0)} tokens of prompt, ${imageTokens.toFixed(0)} of them pictures`;
}

function poisson(name: string, measured: Measured, rate: number, durationMs: number): string {
  return `${name}, Poisson at ${rate.toFixed(2)} requests/s for ${durationMs / 1000} s, ${usageOf(measured)}`;
}
