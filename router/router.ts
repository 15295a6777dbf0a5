// The router put together: replicas, queue, service, health and metrics, and how it shuts down.

import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { Logger } from '../rpc/log.ts';
import type { HttpServer } from '../rpc/http-server.ts';
import { serveMetrics } from '../rpc/metrics-server.ts';
import { createServer, type RpcServer } from '../rpc/server.ts';
import { ReplicaState, type Model, type ReplicaStatus } from '../gen/proto/internvl/v1/inference.ts';
import { Background } from './background.ts';
import { DEFAULT_BREAKER, type BreakerOptions } from './breaker.ts';
import type { Cluster } from './cluster.ts';
import type { RouterConfig } from './config.ts';
import { Dispatcher } from './dispatcher.ts';
import { endpointsFromList, endpointsFromPods, type Endpoint } from './endpoints.ts';
import { RouterMetrics } from './metrics.ts';
import { ModelGate } from './model-gate.ts';
import { ModelRegistry, presentModel } from './model-registry.ts';
import { incompatibility, type ServedModel } from './models.ts';
import { PictureStore } from './picture-store.ts';
import { UPLOAD_TIMES, type UploadTimes } from './picture-upload.ts';
import { Replica } from './replica.ts';
import { ReplicaSet } from './replica-set.ts';
import type { ReplicaPhase } from './replica-state.ts';
import { ReportWriter } from './report.ts';
import { Inference, inferenceService } from './server.ts';
import { DEFAULT_SESSION } from './session.ts';
import { Turns } from './turns.ts';
import type { RequestLimits } from './validate.ts';

const DESCRIPTORS = new URL('../gen/descriptors.binpb', import.meta.url);
const TICK_MS = 100;
/** One priority class is worth this much waiting. */
const AGING_MS = 10_000;
/** Pictures kept after their requests, so that the next turn of a conversation can name them. */
const MAX_CACHED_PICTURE_BYTES = 64 << 20;
/** Of the memory for requests that wait, what uploads may take before a request names them. */
const MOST_UPLOADED = 0.5;
/** While a deployment goes over to another model, replicas of both are served. A fixed list has no such time: there it is a mistake. */
const MOST_MODELS_DISCOVERED = 2;
/** Streams that get tokens in one turn of the event loop: about a millisecond of work. What comes in meanwhile waits as long at most. */
const STREAMS_A_TURN = 256;
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
  /** Needed when the config says that replicas are discovered. */
  readonly cluster?: Pick<Cluster, 'watchPods' | 'writeReport' | 'synced' | 'close'>;
  readonly breaker?: BreakerOptions;
  /** Bytes that one client may leave unread. */
  readonly maxUnreadBytes?: number;
  readonly session?: Partial<typeof DEFAULT_SESSION>;
  readonly uploads?: Partial<UploadTimes>;
  /** Told whenever the first replica becomes ready, or the last one no longer is. */
  readonly onServing?: (serving: boolean) => void;
}

export class Router {
  readonly metrics = new RouterMetrics();
  readonly #config: RouterConfig;
  readonly #logger: Logger;
  readonly #onServing: (serving: boolean) => void;
  readonly #cluster: RouterDependencies['cluster'];
  readonly #replicas: ReplicaSet;
  readonly #report: ReportWriter | undefined;
  readonly #gate: ModelGate;
  readonly #background: Background;
  readonly #dispatcher: Dispatcher;
  readonly #models: ModelRegistry;
  readonly #inference: Inference;
  readonly #server: RpcServer;
  readonly #knownLimits = new Map<ServedModel, RequestLimits>();
  #ticker: NodeJS.Timeout | undefined;
  #metricsServer: HttpServer | undefined;
  #serving = false;
  #draining = false;

  constructor(
    config: RouterConfig,
    {
      logger,
      cluster,
      breaker = DEFAULT_BREAKER,
      maxUnreadBytes,
      session,
      uploads,
      onServing,
    }: RouterDependencies,
  ) {
    const now = (): number => performance.now();
    this.#config = config;
    this.#logger = logger;
    this.#onServing = onServing ?? (() => undefined);
    this.#background = new Background(config.queueMaxBytes);
    const pictures = new PictureStore(
      {
        maxPinnedBytes: config.queueMaxBytes,
        maxUploadBytes: config.queueMaxBytes * MOST_UPLOADED,
        maxCachedBytes: MAX_CACHED_PICTURE_BYTES,
      },
      (data) => this.#background.hashOf(data),
    );
    this.#gate = new ModelGate(config.queueMaxRequests, config.queueMaxWaitMs, config.queueMaxBytes);
    this.#models = new ModelRegistry(
      now,
      (model) => {
        this.#logger.info('model', {
          name: this.#servedName(model),
          modelFingerprint: model.info.modelFingerprint,
        });
        this.#changed();
      },
      {
        mostModels: config.discovery === undefined ? 1 : MOST_MODELS_DISCOVERED,
        inUse: (model) => this.#dispatcher.uses(model),
      },
    );
    const routerId = `router-${randomBytes(4).toString('hex')}`;
    const turns = new Turns(STREAMS_A_TURN);
    const make = ({ name, uid, address }: Endpoint): Replica =>
      new Replica({
        name,
        id: uid,
        address,
        session: {
          ...DEFAULT_SESSION,
          ...session,
          routerId,
          address,
          maxMessageBytes: MAX_SESSION_MESSAGE_BYTES,
          random: Math.random,
        },
        breaker,
        maxMessageBytes: MAX_SESSION_MESSAGE_BYTES,
        models: this.#models,
        pictures,
        counters: this.metrics,
        logger,
        turns,
        now,
        onLoad: () => this.#dispatcher.plan(),
        onState: () => this.#changed(),
      });
    this.#replicas = new ReplicaSet(make, logger);
    this.#cluster = cluster;
    this.#report =
      config.discovery === undefined || cluster === undefined
        ? undefined
        : new ReportWriter({
            routerUid: config.discovery.podUid,
            replicas: () => this.#replicas.named,
            write: (report) => cluster.writeReport(report),
            logger,
          });
    this.#dispatcher = new Dispatcher({
      replicas: () => this.#replicas.present,
      retired: () => this.#replicas.retired,
      models: () => this.#models.models,
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
      gate: this.#gate,
      pictures,
      background: this.#background,
      metrics: this.metrics,
      limits: (model) => this.#limits(model),
      describe: (model) => this.#describe(model),
      now,
      uploads: { ...UPLOAD_TIMES, ...uploads },
      ...(maxUnreadBytes === undefined ? {} : { maxUnreadBytes }),
    });
    this.#server = createServer({
      maxMessageBytes: config.maxMessageBytes,
      services: [{ definition: inferenceService, implementation: this.#inference.handlers() }],
      descriptors: readFileSync(DESCRIPTORS),
      logger,
    });
    this.metrics.collect(() => ({
      waiting: this.#dispatcher.waiting + this.#gate.waiting,
      live: this.#dispatcher.live,
      replicas: this.#replicas.named.map(({ name, state, ledger, attempts }) => ({
        name,
        phase: state.phase,
        credits: ledger.credits,
        attempts,
        running: ledger.running,
        waiting: ledger.waiting,
        kvUsage: ledger.load.kvUsage,
      })),
    }));
  }

  /** The state of each replica, as GetModel reports it. */
  get replicas(): ReplicaStatus[] {
    return this.#replicas.named.map(({ name, state, ledger }) => ({
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
          unhealthy: () => this.#unhealthy(),
          unready: () => this.#unready(),
        });
      } catch (error) {
        await this.#server.shutdown(0);
        throw error;
      }
    }
    this.#ticker = setInterval(() => {
      this.#dispatcher.tick();
      this.#models.prune();
    }, TICK_MS);
    if (this.#config.discovery === undefined) this.#replicas.sync(endpointsFromList(this.#config.replicas));
    else this.#cluster?.watchPods((pods) => this.#replicas.sync(endpointsFromPods(pods)));
    return bound;
  }

  // On a cluster a router without replicas is well: it holds requests until there is one, and a restart would lose them.
  #unhealthy(): string | undefined {
    return this.#serving || this.#config.discovery !== undefined ? undefined : 'no replica is ready';
  }

  /** Why requests should go to another router; however many replicas are ready, this one can hold what comes. */
  #unready(): string | undefined {
    if (this.#draining) return 'the router is shutting down';
    if (this.#cluster?.synced === false) return 'the pods of the deployment have not been seen yet';
    return this.#gate.model === undefined ? 'no replica has said yet which model is served' : undefined;
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
    this.#report?.close();
    this.#replicas.close();
    await this.#background.close();
    await this.#cluster?.close();
    await this.#metricsServer?.close();
  }

  #changed(): void {
    this.#knownLimits.clear();
    this.#dispatcher.plan();
    this.#replicas.sweep();
    this.#report?.touch();
    const ready = this.#replicas.present.filter(({ state }) => state.phase === 'ready');
    const present = presentModel(
      this.#models.models,
      (model) => ready.filter((replica) => replica.model === model).length,
    );
    if (present !== undefined && present !== this.#gate.model) this.#gate.open(present);
    const serving = !this.#draining && ready.length > 0;
    if (serving === this.#serving) return;
    this.#serving = serving;
    this.#server.setServing(serving);
    this.#onServing(serving);
  }

  #servedName(model: ServedModel): string {
    return this.#config.servedName ?? model.info.model;
  }

  /** The limits that hold on every replica that serves the model; kept until a replica's state changes. */
  #limits(model: ServedModel): RequestLimits {
    const known = this.#knownLimits.get(model);
    if (known !== undefined) return known;
    const infos = [model.info];
    for (const { info } of this.#replicas.present) {
      if (info !== undefined && incompatibility(model.info, info) === undefined) infos.push(info);
    }
    const least = (of: (info: ServedModel['info']) => number): number => Math.min(...infos.map(of));
    const limits: RequestLimits = {
      servedName: this.#servedName(model),
      maxModelLength: least((info) => info.maxModelLength),
      vocabSize: model.info.vocabSize,
      maxImages: Math.min(
        this.#config.maxImages ?? Infinity,
        least((info) => info.maxImages),
      ),
      maxImageBytes: least((info) => info.maxImageBytes),
    };
    this.#knownLimits.set(model, limits);
    return limits;
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
