// One load on one router: what it cost the router's process, and how long first tokens took.
import { setTimeout as pause } from 'node:timers/promises';
import { cpuSeconds } from '../processes.ts';
import type { StreamClient } from './stream-clients.ts';

const TOKENS_PER_STREAM = 200;
const RAMP_MS = 2000;
const WINDOW_MS = 4000;
const SETTLE_MS = 500;
const UNARY_IN_FLIGHT = 64;
const UNARY_MS = 2500;

export interface Streamed {
  /** Of the router per token; undefined without a router. */
  readonly cpuMicros: number | undefined;
  readonly tokensPerSecond: number;
  /** Milliseconds of every stream that began in the window. */
  readonly firstTokens: readonly number[];
}

/** Keeps `streams` streams going, begun at different times, and measures a window of them. Throws when any fails. */
export async function measureStreams(
  client: StreamClient,
  streams: number,
  pid: number | undefined,
): Promise<Streamed> {
  const stop = new AbortController();
  const begin = performance.now();
  const from = begin + RAMP_MS;
  const firstTokens: number[] = [];
  let tokens = 0;
  let failure: unknown;
  const slot = async (index: number): Promise<void> => {
    await pause((index / streams) * RAMP_MS);
    while (!stop.signal.aborted) {
      const sent = performance.now();
      let first = true;
      await client.stream(
        TOKENS_PER_STREAM,
        (count) => {
          if (first && sent >= from) firstTokens.push(performance.now() - sent);
          first = false;
          tokens += count;
        },
        stop.signal,
      );
    }
  };
  const slots = Array.from({ length: streams }, (_, index) =>
    slot(index).catch((error: unknown) => {
      if (!stop.signal.aborted) failure ??= error;
    }),
  );
  await pause(Math.max(0, from - performance.now()));
  const [cpuBefore, tokensBefore, start] = [cpuOf(pid), tokens, performance.now()];
  await pause(WINDOW_MS);
  const [cpu, count, seconds] = [
    cpuOf(pid) - cpuBefore,
    tokens - tokensBefore,
    (performance.now() - start) / 1000,
  ];
  stop.abort();
  await Promise.all(slots);
  await pause(SETTLE_MS);
  if (failure !== undefined) throw new Error(`a stream failed: ${(failure as Error).message}`);
  if (count === 0) throw new Error('no token came in the window');
  return {
    cpuMicros: pid === undefined ? undefined : (1e6 * cpu) / count,
    tokensPerSecond: count / seconds,
    firstTokens,
  };
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
