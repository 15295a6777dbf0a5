// The router put together: replicas, queue, service, health and metrics, and how it shuts down.

import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { status } from '@grpc/grpc-js';
import type { Logger } from '../rpc/log.ts';
import { serveMetrics, type MetricsServer } from '../rpc/metrics-server.ts';
import { createServer, type RpcServer } from '../rpc/server.ts';
import { RpcError } from '../rpc/status.ts';
import {
  InferenceService,
  ReplicaState,
  type Model,
  type ReplicaStatus,
} from '../gen/proto/internvl/v1/inference.ts';
import { DEFAULT_BREAKER, type BreakerOptions } from './breaker.ts';
import type { RouterConfig } from './config.ts';
import { Dispatcher } from './dispatcher.ts';
import { RouterMetrics } from './metrics.ts';
import { ModelGate } from './model-gate.ts';
import { incompatibility, ModelRegistry, type ServedModel } from './models.ts';
import { PictureStore } from './picture-store.ts';
import { Replica } from './replica.ts';
import type { ReplicaPhase } from './replica-state.ts';
import { Inference } from './server.ts';
import { DEFAULT_SESSION } from './session.ts';
import type { RequestLimits } from './validate.ts';

const DESCRIPTORS = new URL('../gen/descriptors.binpb', import.meta.url);
const TICK_MS = 100;
/** One priority class is worth this much waiting. */
const AGING_MS = 10_000;
/** Pictures kept after their requests, so that the next turn of a conversation can name them. */
const MAX_CACHED_PICTURE_BYTES = 64 << 20;
/** The exchange with a replica: a batch of prompts, or a step's log-probabilities. */
const MAX_SESSION_MESSAGE_BYTES = 64 << 20;

const PHASES: Readonly<Record<ReplicaPhase, ReplicaState>> = {
  connecting: ReplicaState.CONNECTING,
  probing: ReplicaState.PROBING,
  ready: ReplicaState.READY,
  draining: ReplicaState.DRAINING,
  ejected: ReplicaState.EJECTED,
};

export interface RouterDependencies {
  readonly logger: Logger;
  readonly breaker?: BreakerOptions;
  /** Bytes that one client may leave unread. */
  readonly maxUnreadBytes?: number;
  readonly session?: Partial<typeof DEFAULT_SESSION>;
  /** Told whenever the first replica becomes ready, or the last one no longer is. */
  readonly onServing?: (serving: boolean) => void;
}

export class Router {
  readonly metrics = new RouterMetrics();
  readonly #config: RouterConfig;
  readonly #logger: Logger;
  readonly #onServing: (serving: boolean) => void;
  readonly #replicas: readonly Replica[];
  readonly #dispatcher: Dispatcher;
  readonly #models: ModelRegistry;
  readonly #inference: Inference;
  readonly #server: RpcServer;
  #ticker: NodeJS.Timeout | undefined;
  #metricsServer: MetricsServer | undefined;
  #serving = false;
  #draining = false;

  constructor(
    config: RouterConfig,
    { logger, breaker = DEFAULT_BREAKER, maxUnreadBytes, session, onServing }: RouterDependencies,
  ) {
    const now = (): number => performance.now();
    this.#config = config;
    this.#logger = logger;
    this.#onServing = onServing ?? (() => undefined);
    const pictures = new PictureStore({
      maxPinnedBytes: config.queueMaxBytes,
      maxCachedBytes: MAX_CACHED_PICTURE_BYTES,
    });
    const gate = new ModelGate(config.queueMaxRequests, config.queueMaxWaitMs);
    this.#models = new ModelRegistry(now, (model) => {
      this.#logger.info('model', {
        name: this.#servedName(model),
        modelFingerprint: model.info.modelFingerprint,
      });
      this.#dispatcher.failWaiting(
        new RpcError(
          status.UNAVAILABLE,
          'MODEL_CHANGED',
          'the served model changed while the request waited',
          { retryAfterMs: 0 },
        ),
      );
      gate.open(model);
    });
    const routerId = `router-${randomBytes(4).toString('hex')}`;
    this.#replicas = config.replicas.map(
      ({ name, address }) =>
        new Replica({
          name,
          address,
          session: { ...DEFAULT_SESSION, ...session, routerId, random: Math.random },
          breaker,
          maxMessageBytes: MAX_SESSION_MESSAGE_BYTES,
          models: this.#models,
          pictures,
          counters: this.metrics,
          logger,
          now,
          onChange: () => this.#changed(),
        }),
    );
    this.#dispatcher = new Dispatcher(this.#replicas, {
      queue: {
        maxRequests: config.queueMaxRequests,
        maxBytes: config.queueMaxBytes,
        maxWaitMs: config.queueMaxWaitMs,
        agingMs: AGING_MS,
      },
      metrics: this.metrics,
      now,
      random: Math.random,
    });
    this.#inference = new Inference({
      dispatcher: this.#dispatcher,
      gate,
      pictures,
      metrics: this.metrics,
      limits: (model) => this.#limits(model),
      describe: (model) => this.#describe(model),
      now,
      ...(maxUnreadBytes === undefined ? {} : { maxUnreadBytes }),
    });
    this.#server = createServer({
      maxMessageBytes: config.maxMessageBytes,
      services: [{ definition: InferenceService, implementation: this.#inference.handlers() }],
      descriptors: readFileSync(DESCRIPTORS),
      logger,
    });
    this.metrics.collect(() => ({
      waiting: this.#dispatcher.waiting + gate.waiting,
      live: this.#dispatcher.live,
      replicas: this.#replicas.map(({ name, state, ledger, attempts }) => ({
        name,
        phase: state.phase,
        credits: ledger.credits,
        attempts,
      })),
    }));
  }

  /** The state of each replica, as GetModel reports it. */
  get replicas(): ReplicaStatus[] {
    return this.#replicas.map(({ name, state, ledger }) => ({
      name,
      state: PHASES[state.phase],
      message: state.message,
      running: ledger.running,
      waiting: ledger.waiting,
      kvCacheUsage: ledger.load.kvUsage,
    }));
  }

  /** Requests that have not ended. */
  get live(): number {
    return this.#dispatcher.live;
  }

  /** Listens and connects to the replicas; returns HOST:PORT. Throws PortInUse or BindError. */
  async start(): Promise<string> {
    const { listen, metricsListen } = this.#config;
    const bound = await this.#server.bind(listen);
    if (metricsListen !== undefined) {
      try {
        this.#metricsServer = await serveMetrics({
          listen: metricsListen,
          registry: this.metrics.registry,
          unhealthy: () => (this.#serving ? undefined : 'no replica is ready'),
        });
      } catch (error) {
        await this.#server.shutdown(0);
        throw error;
      }
    }
    this.#ticker = setInterval(() => this.#dispatcher.tick(), TICK_MS);
    for (const replica of this.#replicas) replica.open();
    return bound;
  }

  get metricsAddress(): string | undefined {
    return this.#metricsServer?.address;
  }

  /** Takes nothing new, lets what is under way end for as long as the drain timeout, then ends everything. */
  async stop(): Promise<void> {
    const deadline = performance.now() + this.#config.drainTimeoutMs;
    this.#draining = true;
    this.#inference.drain();
    this.#changed();
    await Promise.race([this.#dispatcher.whenIdle(), sleep(this.#config.drainTimeoutMs)]);
    await this.#server.shutdown(Math.max(100, deadline - performance.now()));
    clearInterval(this.#ticker);
    for (const replica of this.#replicas) replica.close();
    await this.#metricsServer?.close();
  }

  #changed(): void {
    this.#dispatcher.plan();
    const serving = !this.#draining && this.#replicas.some(({ state }) => state.phase === 'ready');
    if (serving === this.#serving) return;
    this.#serving = serving;
    this.#server.setServing(serving);
    this.#onServing(serving);
  }

  #servedName(model: ServedModel): string {
    return this.#config.servedName ?? model.info.model;
  }

  /** The limits that hold on every replica that serves the model. */
  #limits(model: ServedModel): RequestLimits {
    const infos = [model.info];
    for (const { info } of this.#replicas) {
      if (info !== undefined && incompatibility(model.info, info) === undefined) infos.push(info);
    }
    const least = (of: (info: ServedModel['info']) => number): number => Math.min(...infos.map(of));
    return {
      servedName: this.#servedName(model),
      maxModelLength: least((info) => info.maxModelLength),
      vocabSize: model.info.vocabSize,
      maxImages: Math.min(
        this.#config.maxImages ?? Infinity,
        least((info) => info.maxImages),
      ),
      maxImageBytes: least((info) => info.maxImageBytes),
    };
  }

  #describe(model: ServedModel): Model {
    const limits = this.#limits(model);
    return {
      name: limits.servedName,
      maxModelLength: limits.maxModelLength,
      vocabSize: limits.vocabSize,
      imageTokens: model.info.imageTokens,
      maxImages: limits.maxImages,
      dtype: model.info.dtype,
      tensorParallelSize: model.info.tensorParallelSize,
      replicas: this.replicas,
    };
  }
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms).unref());
}
