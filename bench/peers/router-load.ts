// One load on one router: what it cost the router's process, and how long first tokens took.
import { setTimeout as pause } from 'node:timers/promises';
import { cpuSeconds } from '../processes.ts';
import type { StreamClient } from './stream-clients.ts';

const TOKENS_PER_STREAM = 200;
const RAMP_MS = 2000;
const WINDOW_MS = 4000;
const PROBE_EVERY_MS = 50;
const PROBE_PATIENCE_MS = 5000;
const SETTLE_MS = 500;
const UNARY_IN_FLIGHT = 64;
const UNARY_MS = 2500;

export interface Streamed {
  /** Of the router per token; undefined without a router. */
  readonly cpuMicros: number | undefined;
  readonly tokensPerSecond: number;
  /** Milliseconds of streams of one token, sent in the window at even times; the time waited where none came. */
  readonly firstTokens: readonly number[];
}

/** Keeps `streams` streams going, begun at different times, and measures a window of them. Throws when any fails. */
export async function measureStreams(
  client: StreamClient,
  streams: number,
  pid: number | undefined,
): Promise<Streamed> {
  const stop = new AbortController();
  let tokens = 0;
  let failure: unknown;
  const slot = async (index: number): Promise<void> => {
    await pause((index / streams) * RAMP_MS);
    while (!stop.signal.aborted)
      await client.stream(TOKENS_PER_STREAM, (count) => (tokens += count), stop.signal);
  };
  const slots = Array.from({ length: streams }, (_, index) =>
    slot(index).catch((error: unknown) => {
      if (!stop.signal.aborted) failure ??= error;
    }),
  );
  await pause(RAMP_MS);
  const [cpuBefore, tokensBefore, start] = [cpuOf(pid), tokens, performance.now()];
  const probes: Promise<number>[] = [];
  for (let at = start; at < start + WINDOW_MS; at += PROBE_EVERY_MS) {
    await pause(Math.max(0, at - performance.now()));
    // From when it was due: a client or a router that stands still makes the following ones late, not absent.
    const asked = probe(client, at, stop.signal);
    asked.catch(() => undefined); // read below, when all are sent
    probes.push(asked);
  }
  const cpu = cpuOf(pid) - cpuBefore;
  const count = tokens - tokensBefore;
  const seconds = (performance.now() - start) / 1000;
  const patience = new AbortController();
  try {
    await Promise.race([Promise.all(probes), pause(PROBE_PATIENCE_MS, undefined, patience)]);
  } finally {
    patience.abort();
    stop.abort();
    await Promise.all(slots);
  }
  const firstTokens = await Promise.all(probes);
  await pause(SETTLE_MS);
  if (failure !== undefined) throw new Error(`a stream failed: ${(failure as Error).message}`);
  if (count === 0) throw new Error('no token came in the window');
  return {
    cpuMicros: pid === undefined ? undefined : (1e6 * cpu) / count,
    tokensPerSecond: count / seconds,
    firstTokens,
  };
}

/** Milliseconds from `due` to the first token, or to the end of patience. */
async function probe(client: StreamClient, due: number, signal: AbortSignal): Promise<number> {
  let first: number | undefined;
  const took = () => performance.now() - due;
  await client
    .stream(1, () => (first ??= took()), signal)
    .catch((error: unknown) => {
      if (!signal.aborted) throw error;
    });
  return first ?? took();
}

/** Unary requests of one token that the router would answer in a second of CPU time. */
export async function measureUnary(client: StreamClient, pid: number): Promise<number> {
  const before = cpuSeconds(pid);
  const end = performance.now() + UNARY_MS;
  let requests = 0;
  const worker = async (): Promise<void> => {
    while (performance.now() < end) {
      await client.once();
      requests++;
    }
  };
  await Promise.all(Array.from({ length: UNARY_IN_FLIGHT }, worker));
  return requests / (cpuSeconds(pid) - before);
}

function cpuOf(pid: number | undefined): number {
  return pid === undefined ? 0 : cpuSeconds(pid);
}
