// Sends one load and waits for every answer. An open loop sends when it is time, however many are under way; a closed loop when an answer is in.
import { status, type ServiceError } from '@grpc/grpc-js';
import { setTimeout as pause } from 'node:timers/promises';
import { FinishReason } from '../../gen/proto/internvl/v1/generation.ts';
import type {
  GenerateEvent,
  GenerateRequest,
  InferenceClient,
} from '../../gen/proto/internvl/v1/inference.ts';
import { poissonArrivals } from './arrivals.ts';
import type { Limits } from './goodput.ts';
import { Measurement, type Ending, type Measured, type Observed } from './measurement.ts';

export type Load =
  | { readonly kind: 'open'; readonly rate: number }
  | { readonly kind: 'closed'; readonly concurrency: number };

export interface LoadOptions {
  readonly clients: readonly InferenceClient[];
  /** The next request, made ready before it is asked for. */
  readonly next: () => Promise<GenerateRequest>;
  readonly warmUpMs: number;
  readonly durationMs: number;
  readonly timeoutMs: number;
  readonly seed: bigint;
  readonly limits: Limits | undefined;
  readonly signal: AbortSignal;
  /** Told every few seconds. */
  readonly progress: (progress: Progress) => void;
}

export interface Progress {
  readonly elapsedMs: number;
  readonly sent: number;
  readonly ended: number;
}

const PROGRESS_MS = 5000;

/** Throws the signal's reason when it is aborted. */
export async function runLoad(load: Load, options: LoadOptions): Promise<Measured> {
  const begin = performance.now();
  const window = { from: begin + options.warmUpMs, to: begin + options.warmUpMs + options.durationMs };
  const measurement = new Measurement(window, options.limits);
  const counts = { sent: 0, ended: 0 };
  const ask = async (request: GenerateRequest, intended: number): Promise<void> => {
    const client = options.clients[counts.sent++ % options.clients.length] as InferenceClient;
    const observed = measurement.sent(intended, performance.now());
    await generate(client, request, options, observed);
    counts.ended++;
  };
  const ticker = setInterval(
    () => options.progress({ elapsedMs: performance.now() - begin, ...counts }),
    PROGRESS_MS,
  );
  try {
    if (load.kind === 'open') await open(load.rate, begin, window.to, options, ask);
    else await closed(load.concurrency, window.to, options, ask);
    options.signal.throwIfAborted();
    return measurement.result();
  } finally {
    clearInterval(ticker);
  }
}

type Ask = (request: GenerateRequest, intended: number) => Promise<void>;

async function open(rate: number, begin: number, end: number, options: LoadOptions, ask: Ask): Promise<void> {
  const running = new Set<Promise<void>>();
  for (const at of poissonArrivals(rate, end - begin, options.seed)) {
    const request = await options.next();
    const early = begin + at - performance.now();
    if (early > 0) await pause(early, undefined, { signal: options.signal }).catch(() => undefined);
    if (options.signal.aborted) break;
    const asked = ask(request, begin + at).finally(() => running.delete(asked));
    running.add(asked);
  }
  await Promise.all(running);
}

async function closed(concurrency: number, end: number, options: LoadOptions, ask: Ask): Promise<void> {
  const worker = async (): Promise<void> => {
    while (performance.now() < end && !options.signal.aborted)
      await ask(await options.next(), performance.now());
  };
  await Promise.all(Array.from({ length: concurrency }, worker));
}

/** Runs one generation to its end, whatever that is. */
async function generate(
  client: InferenceClient,
  request: GenerateRequest,
  { timeoutMs, signal }: LoadOptions,
  observed: Observed,
): Promise<void> {
  const call = client.generate(request, { deadline: Date.now() + timeoutMs });
  const cancel = () => call.cancel();
  signal.addEventListener('abort', cancel, { once: true });
  let ending: Ending = { code: 'UNFINISHED', usage: undefined };
  call.on('data', ({ event }: GenerateEvent) => {
    if (event?.$case === 'delta' && event.value.tokenIds.length > 0)
      observed.piece(performance.now(), event.value.tokenIds.length);
    if (event?.$case === 'finished' && isComplete(event.value.finishReason))
      ending = { code: 'OK', usage: event.value.usage };
  });
  // The status follows in any case, and has the code.
  call.on('error', ({ code }: ServiceError) => {
    ending = { code: status[code] ?? `CODE_${code}`, usage: undefined };
  });
  await new Promise((resolve) => call.once('status', resolve));
  signal.removeEventListener('abort', cancel);
  observed.ended(performance.now(), ending);
}

function isComplete(reason: FinishReason): boolean {
  return reason === FinishReason.STOP || reason === FinishReason.LENGTH;
}
