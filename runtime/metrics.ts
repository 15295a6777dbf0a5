// What a replica tells Prometheus. Names follow the words of the model-server signals that autoscalers know.

import { Counter, Gauge, Histogram, Registry } from 'prom-client';
import { EMPTY_CACHES } from './engine/engine.ts';
import type { CacheLoad, EngineLoad, FinishReason, StepDuration, StepOutput } from './engine/engine.ts';
import type { PreflightReport } from './preflight/report.ts';
import type { StartupPhase } from './startup.ts';

const FIRST_TOKEN_SECONDS = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];
const INTER_TOKEN_SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5];
const PREFILL_TOKENS = [16, 32, 64, 128, 256, 512, 1024, 2048, 4096];

type StepTokens = Pick<StepOutput, 'tokenIds' | 'prefillTokens'>;

/** The metrics of one rank, in their own registry. */
export class RuntimeMetrics {
  readonly registry = new Registry();
  readonly #firstToken = this.#histogram(
    'time_to_first_token_seconds',
    'From submission to the first token.',
    FIRST_TOKEN_SECONDS,
  );
  readonly #interToken = this.#histogram(
    'inter_token_latency_seconds',
    'Between two tokens of a request.',
    INTER_TOKEN_SECONDS,
  );
  readonly #step = this.#histogram('step_seconds', 'Duration of an engine step.', INTER_TOKEN_SECONDS);
  readonly #stepNative = this.#counter(
    'step_native_seconds_total',
    'Of the duration of engine steps, spent inside native operations.',
  );
  readonly #stepPrefill = this.#histogram(
    'step_prefill_tokens',
    'Prefill tokens of the engine steps that had any.',
    PREFILL_TOKENS,
  );
  readonly #promptTokens = this.#counter(
    'prompt_tokens_total',
    'Prompt tokens of requests that got a token.',
  );
  readonly #generationTokens = this.#counter('generation_tokens_total', 'Generated tokens.');
  readonly #requests = new Counter({
    name: 'internvl_requests_total',
    help: 'Requests that ended, by why.',
    labelNames: ['finish_reason'],
    registers: [this.registry],
  });

  readonly #startup = new Gauge({
    name: 'internvl_startup_phase_seconds',
    help: 'What each phase of the start took, once the rank serves.',
    labelNames: ['phase'],
    registers: [this.registry],
  });

  readonly #busBytes = new Gauge({
    name: 'internvl_interconnect_bus_bytes_per_second',
    help: 'What the links between ranks carried in an all-reduce of so many bytes, by the slowest path, measured once at the start.',
    labelNames: ['path', 'bytes'],
    registers: [this.registry],
  });
  readonly #reduceSeconds = new Gauge({
    name: 'internvl_interconnect_all_reduce_seconds',
    help: 'What an all-reduce of so many bytes took, by the slowest path, measured once at the start.',
    labelNames: ['path', 'bytes'],
    registers: [this.registry],
  });
  readonly #gateFailed = new Gauge({
    name: 'internvl_interconnect_gate_failed',
    help: '1 for what keeps the devices of the ranks from reaching each other directly.',
    labelNames: ['gate'],
    registers: [this.registry],
  });

  /** load is asked at each scrape. */
  constructor(load: () => EngineLoad | undefined) {
    this.#gauge('num_requests_waiting', 'Requests that wait to be scheduled.', () => load()?.waiting ?? 0);
    this.#gauge('num_requests_running', 'Requests being computed.', () => load()?.running ?? 0);
    this.#gauge('kv_cache_usage_ratio', 'Share of the KV cache blocks in use, 0 to 1.', () => {
      const now = load();
      return now === undefined || now.kvBlocks === 0 ? 0 : now.kvBlocksUsed / now.kvBlocks;
    });
    this.#gauge('kv_cache_blocks', 'KV cache blocks there are.', () => load()?.kvBlocks ?? 0);
    const caches = (): CacheLoad => load()?.caches ?? EMPTY_CACHES;
    this.#gauge(
      'kv_cache_idle_blocks',
      'KV cache blocks that no request uses and whose content can be found.',
      () => caches().idleBlocks,
    );
    this.#total(
      'prefix_cache_queries_total',
      'Prompt tokens of requests that have started.',
      () => caches().promptTokens,
    );
    this.#total(
      'prefix_cache_hits_total',
      'Prompt tokens that were in the prefix cache.',
      () => caches().hitTokens,
    );
    this.#total(
      'encoder_cache_hits_total',
      'Pictures that were encoded already when a request came to them.',
      () => caches().imageHits,
    );
    this.#total('encoder_cache_misses_total', 'Pictures that had to be encoded.', () => caches().imageMisses);
    this.#gauge('encoder_cache_bytes', 'Rows of encoded pictures on each rank.', () => caches().imageBytes);
    this.#gauge('process_resident_bytes', 'Resident memory of this rank.', () => process.memoryUsage.rss());
  }

  /** Milliseconds by phase. */
  started(phases: Readonly<Partial<Record<StartupPhase, number>>>): void {
    for (const [phase, ms] of Object.entries(phases)) this.#startup.set({ phase }, ms / 1000);
  }

  /** What rank 0 measured before its group loaded. */
  interconnect({ path, allReduce, gates }: PreflightReport): void {
    for (const { bytes, us, busGigabytesPerSecond } of allReduce) {
      const labels = { path, bytes: String(bytes) };
      this.#busBytes.set(labels, busGigabytesPerSecond * 1e9);
      this.#reduceSeconds.set(labels, us / 1e6);
    }
    for (const { gate, outcome } of gates) this.#gateFailed.set({ gate }, outcome === 'fail' ? 1 : 0);
  }

  firstToken(seconds: number, promptTokens: number): void {
    this.#firstToken.observe(seconds);
    this.#promptTokens.inc(promptTokens);
  }

  /** The last of `count` tokens came `seconds` after the token before them. */
  laterTokens(seconds: number, count: number): void {
    for (let token = 0; token < count; token += 1) this.#interToken.observe(seconds / count);
  }

  step({ us, nativeUs }: StepDuration, { tokenIds, prefillTokens }: StepTokens): void {
    this.#step.observe(us / 1e6);
    this.#stepNative.inc(nativeUs / 1e6);
    this.#generationTokens.inc(tokenIds.length);
    if (prefillTokens > 0) this.#stepPrefill.observe(prefillTokens);
  }

  finished(reason: FinishReason | 'rejected'): void {
    this.#requests.inc({ finish_reason: reason });
  }

  #histogram(name: string, help: string, buckets: number[]): Histogram {
    return new Histogram({ name: `internvl_${name}`, help, buckets, registers: [this.registry] });
  }

  #counter(name: string, help: string): Counter {
    return new Counter({ name: `internvl_${name}`, help, registers: [this.registry] });
  }

  /** A count that is kept elsewhere. */
  #total(name: string, help: string, value: () => number): void {
    const counter: Counter = new Counter({
      name: `internvl_${name}`,
      help,
      registers: [this.registry],
      collect: () => {
        counter.reset();
        counter.inc(value());
      },
    });
  }

  #gauge(name: string, help: string, value: () => number): void {
    const gauge: Gauge = new Gauge({
      name: `internvl_${name}`,
      help,
      registers: [this.registry],
      collect: () => gauge.set(value()),
    });
  }
}
