import { Counter, Gauge, Histogram, Registry } from 'prom-client';
import { LatencyHistogram } from './latency.ts';
import type { PictureCounters } from './picture-sender.ts';
import type { ReplicaPhase } from './replica-state.ts';

export const REPLICA_PHASES: readonly ReplicaPhase[] = [
  'connecting',
  'probing',
  'ready',
  'draining',
  'ejected',
];

const LATENCY_BUCKETS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120];

/** What one router tells Prometheus. Labels are bounded: status codes, replicas there are (a replica's go with it), phases. */
export class RouterMetrics implements PictureCounters {
  readonly registry = new Registry();
  readonly requests: Counter<'code'>;
  readonly retries: Counter;
  readonly queueSeconds: Histogram<'outcome'>;
  readonly firstTokenSeconds: LatencyHistogram;
  readonly interTokenSeconds: LatencyHistogram;
  /** Tokens delivered since the last scrape. */
  #tokens = 0;
  readonly #imageSent: Counter;
  readonly #imageReused: Counter;
  readonly #queueDepth: Gauge;
  readonly #queueLive: Gauge;
  readonly #state: Gauge<'replica' | 'state'>;
  readonly #credits: Gauge<'replica'>;
  readonly #attempts: Gauge<'replica'>;
  readonly #running: Gauge<'replica'>;
  readonly #waiting: Gauge<'replica'>;
  readonly #kvUsage: Gauge<'replica'>;

  constructor() {
    const registers = [this.registry];
    const counter = <L extends string>(
      name: string,
      help: string,
      labelNames: readonly L[] = [],
    ): Counter<L> => new Counter({ name: `internvl_router_${name}`, help, labelNames, registers });
    const gauge = <L extends string>(name: string, help: string, labelNames: readonly L[] = []): Gauge<L> =>
      new Gauge({ name: `internvl_router_${name}`, help, labelNames, registers });
    const latency = (name: string, help: string): LatencyHistogram =>
      new LatencyHistogram({
        name: `internvl_router_${name}`,
        help,
        buckets: LATENCY_BUCKETS,
        registry: this.registry,
      });
    this.requests = counter('requests_total', 'Generation requests that ended, by gRPC status code', [
      'code',
    ]);
    this.retries = counter('retries_total', 'Requests given to another replica after a failure');
    const tokens: Counter = new Counter({
      name: 'internvl_router_completion_tokens_total',
      help: 'Tokens delivered to clients',
      registers,
      collect: () => {
        tokens.inc(this.#tokens);
        this.#tokens = 0;
      },
    });
    this.queueSeconds = new Histogram({
      name: 'internvl_router_queue_seconds',
      help: 'Time from arrival to the end of the first wait for a replica, by outcome: placed, timeout, cancelled or failed',
      labelNames: ['outcome'],
      buckets: LATENCY_BUCKETS,
      registers,
    });
    this.firstTokenSeconds = latency('time_to_first_token_seconds', 'Time from arrival to the first token');
    this.interTokenSeconds = latency('inter_token_seconds', 'Time between outputs of one answer');
    this.#imageSent = counter('image_bytes_sent_total', 'Picture bytes sent to replicas');
    this.#imageReused = counter('image_bytes_reused_total', 'Picture bytes that a replica held already');
    this.#queueDepth = gauge('queue_depth', 'Requests that wait for a replica');
    this.#queueLive = gauge('requests_in_flight', 'Requests that have not ended, waiting ones included');
    this.#state = gauge('replica_state', '1 for the state a replica is in', ['replica', 'state']);
    this.#credits = gauge('replica_credits', 'Submissions a replica still takes', ['replica']);
    this.#attempts = gauge('replica_attempts', 'Requests of this router on a replica', ['replica']);
    this.#running = gauge('replica_running', 'Sequences of all routers that a replica runs', ['replica']);
    this.#waiting = gauge('replica_waiting', 'Sequences of all routers that wait inside a replica', [
      'replica',
    ]);
    this.#kvUsage = gauge('replica_kv_usage_ratio', "Share of a replica's KV blocks in use", ['replica']);
  }

  delivered(tokens: number): void {
    this.#tokens += tokens;
  }

  sent(bytes: number): void {
    this.#imageSent.inc(bytes);
  }

  reused(bytes: number): void {
    this.#imageReused.inc(bytes);
  }

  /** Takes the gauges' values from `read` whenever they are scraped. */
  collect(read: () => RouterFigures): void {
    this.#queueDepth.set(0);
    const gauge = this.#queueDepth as Gauge & { collect: () => void };
    gauge.collect = () => {
      const figures = read();
      this.#queueDepth.set(figures.waiting);
      this.#queueLive.set(figures.live);
      for (const each of [
        this.#state,
        this.#credits,
        this.#attempts,
        this.#running,
        this.#waiting,
        this.#kvUsage,
      ])
        each.reset();
      for (const replica of figures.replicas) {
        for (const state of REPLICA_PHASES)
          this.#state.set({ replica: replica.name, state }, state === replica.phase ? 1 : 0);
        this.#credits.set({ replica: replica.name }, replica.credits);
        this.#attempts.set({ replica: replica.name }, replica.attempts);
        this.#running.set({ replica: replica.name }, replica.running);
        this.#waiting.set({ replica: replica.name }, replica.waiting);
        this.#kvUsage.set({ replica: replica.name }, replica.kvUsage);
      }
    };
  }
}

export interface RouterFigures {
  readonly waiting: number;
  readonly live: number;
  readonly replicas: readonly {
    readonly name: string;
    readonly phase: ReplicaPhase;
    readonly credits: number;
    readonly attempts: number;
    readonly running: number;
    readonly waiting: number;
    readonly kvUsage: number;
  }[];
}
