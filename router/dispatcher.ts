// Brings waiting requests and replicas' credits together, and decides what becomes of a request whose replica failed.

import { status } from '@grpc/grpc-js';
import { RpcError } from '../rpc/status.ts';
import { FinishReason } from '../gen/proto/internvl/v1/generation.ts';
import type { Done } from '../gen/proto/internvl/engine/v1/engine.ts';
import { Affinity } from './affinity.ts';
import type { Candidate } from './balancer.ts';
import { takeBatch } from './batcher.ts';
import { admissible, type Ejectable } from './breaker.ts';
import { DEFAULT_RATES } from './cost.ts';
import type { RouterMetrics } from './metrics.ts';
import { presentModel } from './model-registry.ts';
import type { ServedModel } from './models.ts';
import { RequestQueue, type QueueLimits } from './queue.ts';
import { fillRates } from './rates.ts';
import type { Replica } from './replica.ts';
import type { RoutedRequest } from './request.ts';
import { decideRetry, RetryBudget } from './retry.ts';

/** What a caller that found the queue full is told to wait. */
const RETRY_AFTER_MS = 1_000;
/** A replica may notice a deadline a little before the router's own clock does. */
const DEADLINE_SLACK_MS = 250;

export interface DispatcherOptions {
  /** The replicas there are now. */
  readonly replicas: () => readonly Replica[];
  /** The models that are served, oldest first. */
  readonly models: () => readonly ServedModel[];
  /** Those that go, with attempts that have not ended. */
  readonly retired: () => readonly Replica[];
  readonly queue: QueueLimits;
  readonly metrics: RouterMetrics;
  readonly now: () => number;
  readonly random: () => number;
}

interface Servable extends Ejectable {
  readonly replica: Replica;
}

/** Owns the queue. Every request given to `submit` ends exactly once, with its listener told unless it was cancelled. */
export class Dispatcher {
  readonly #options: DispatcherOptions;
  readonly #queue: RequestQueue<RoutedRequest>;
  readonly #affinity = new Affinity();
  readonly #budget = new RetryBudget();
  readonly #live = new Set<RoutedRequest>();
  #planned = false;
  /** When there was last a replica that could serve. */
  #servableAt: number;
  #idle: (() => void)[] = [];

  constructor(options: DispatcherOptions) {
    this.#options = options;
    this.#queue = new RequestQueue(options.queue);
    this.#servableAt = options.now();
  }

  get waiting(): number {
    return this.#queue.size;
  }

  /** Requests that have not ended. */
  get live(): number {
    return this.#live.size;
  }

  /** True when a request that has not ended was tokenized for the model. */
  uses(model: ServedModel): boolean {
    for (const request of this.#live) if (request.model === model) return true;
    return false;
  }

  /** Throws RESOURCE_EXHAUSTED when there is no room to wait. */
  submit(request: RoutedRequest): void {
    const pushed = this.#queue.push(request);
    if (pushed !== 'queued') {
      const { maxRequests, maxBytes } = this.#options.queue;
      const many = pushed === 'too many requests';
      throw new RpcError(
        status.RESOURCE_EXHAUSTED,
        'QUEUE_FULL',
        (many
          ? `${maxRequests} requests wait already`
          : `the waiting requests and this one together hold more than ${maxBytes} bytes`) +
          (this.#servable().length > 0 ? '' : ', and no replica is ready'),
        {
          metadata: {
            limit: String(many ? maxRequests : maxBytes),
            value: String(many ? this.#queue.size : this.#queue.bytes + request.bytes),
          },
          retryAfterMs: RETRY_AFTER_MS,
        },
      );
    }
    this.#live.add(request);
    this.#budget.earn();
    this.plan();
  }

  /** The caller is gone, or has what it wants: the replica frees the sequence. Nothing is told. */
  cancel(request: RoutedRequest): void {
    const { attempt } = request;
    if (!request.end()) return;
    if (this.#queue.remove(request)) this.#waitEnded(request, 'cancelled');
    attempt?.abort();
    this.#forget(request);
  }

  /** Places what can be placed once everything that has arrived is read: requests that come together are placed together. */
  plan(): void {
    if (this.#planned) return;
    this.#planned = true;
    setImmediate(() => {
      this.#planned = false;
      this.#dispatch();
    });
  }

  /** What time brings; call it a few times a second. */
  tick(): void {
    const now = this.#options.now();
    for (const replica of this.#options.replicas()) replica.tick();
    if (this.#servable().length > 0) this.#servableAt = now;
    for (const request of this.#queue.expired(now)) {
      this.#waitEnded(request, 'timeout');
      this.#fail(request, this.#waitedTooLong(request));
    }
    this.plan();
  }

  /** Resolves when no request is left. */
  whenIdle(): Promise<void> {
    if (this.#live.size === 0) return Promise.resolve();
    return new Promise((resolve) => this.#idle.push(resolve));
  }

  /** Replicas that may get requests: the ready ones, or, when all of those are ejected, the least bad of them. */
  #servable(): readonly Replica[] {
    const now = this.#options.now();
    const connected = this.#options
      .replicas()
      .filter(({ state }) => state.phase === 'ready' || (state.phase === 'ejected' && !state.incompatible))
      .map((replica): Servable => ({
        replica,
        ejected: replica.state.phase === 'ejected',
        failureRatio: replica.breaker.ratio(now),
      }));
    return admissible(connected).map(({ replica }) => replica);
  }

  #dispatch(): void {
    const retired = this.#options.retired();
    if (this.#queue.size === 0 && retired.length === 0) return;
    const replicas = this.#servable();
    // What a replica that goes has not begun is better begun elsewhere; without an elsewhere it may still get to it.
    if (replicas.length > 0) for (const replica of retired) replica.handBackUnstarted();
    const rates = fillRates(
      replicas.map((replica) => replica.rates),
      DEFAULT_RATES,
    );
    const byId = new Map(replicas.map((replica) => [replica.id, replica]));
    const candidates = replicas.map((replica, index): Candidate => {
      const { credits, load } = replica.ledger;
      return {
        name: replica.id,
        credits,
        maxSequences: replica.info?.maxSequences ?? Infinity,
        load,
        rates: rates[index]!,
      };
    });
    const modelFor = modelChoice(this.#options.models(), replicas);
    for (const { request, replica } of takeBatch(
      this.#queue,
      candidates,
      (request, id) => this.#hitTokens(request, byId.get(id)!),
      this.#options.now(),
      this.#options.random,
      (request, id) => byId.get(id)!.model === modelFor(request),
    )) {
      this.#start(request, byId.get(replica)!);
    }
  }

  #hitTokens(request: RoutedRequest, replica: Replica): number {
    const { work, affinityKey } = request;
    const encoded = work.pictures.reduce(
      (sum, { hash, length }) => sum + (replica.holdsPicture(hash) ? length : 0),
      0,
    );
    const said = this.#affinity.hitTokens(affinityKey, work.cacheSalt, replica.id, work.tokenIds.length);
    return encoded + Math.max(said, replica.prefixes.hitTokens(request.prefixBlocks));
  }

  #start(request: RoutedRequest, replica: Replica): void {
    const { model } = replica;
    if (model !== undefined && model !== request.model) {
      try {
        request.retarget(model);
      } catch (error) {
        this.#waitEnded(request, 'failed');
        this.#fail(request, modelChanged(error));
        return;
      }
    }
    this.#waitEnded(request, 'placed');
    request.placedAt ??= this.#options.now();
    request.state = 'running';
    replica.prefixes.placed(request.prefixBlocks);
    request.attempt = replica.run(request.work, {
      onAccepted: () => {
        if (request.accepted) return;
        request.accepted = true;
        request.listener.onAccepted(replica.name);
      },
      onTokens: (tokenIds, logprobs) => {
        request.tokensDelivered += tokenIds.length;
        request.listener.onTokens(tokenIds, logprobs);
      },
      onDone: (done) => this.#done(request, replica, done),
      onFailed: (error, lost) => this.#attemptFailed(request, replica, error, lost),
      onHandedBack: () => this.#waitAgain(request),
    });
  }

  #waitAgain(request: RoutedRequest): void {
    if (request.state === 'ended') return;
    request.attempt = undefined;
    request.state = 'waiting';
    request.waitingSince = this.#options.now();
    this.#queue.pushBack(request);
    this.plan();
  }

  /** Counts the first wait of a request that leaves the queue. */
  #waitEnded(request: RoutedRequest, outcome: 'placed' | 'timeout' | 'cancelled' | 'failed'): void {
    if (request.placedAt !== undefined) return;
    this.#options.metrics.queueSeconds.observe(
      { outcome },
      (this.#options.now() - request.enqueuedAt) / 1000,
    );
  }

  #done(request: RoutedRequest, replica: Replica, done: Done): void {
    if (done.finishReason === FinishReason.ABORT) {
      const { deadlineAt } = request.work;
      const late = deadlineAt !== undefined && this.#options.now() >= deadlineAt - DEADLINE_SLACK_MS;
      const error = late
        ? new RpcError(
            status.DEADLINE_EXCEEDED,
            'DEADLINE_EXCEEDED',
            'the deadline passed before the answer was complete',
          )
        : new RpcError(status.UNAVAILABLE, 'REPLICA_FAILED', `replica ${replica.name} gave the request up`);
      this.#attemptFailed(request, replica, error, false);
      return;
    }
    this.#affinity.served(
      request.affinityKey,
      request.work.cacheSalt,
      replica.id,
      request.work.tokenIds.length + request.tokensDelivered,
    );
    if (!request.end()) return;
    this.#forget(request);
    request.listener.onFinished(done, replica.name);
  }

  #attemptFailed(request: RoutedRequest, replica: Replica, error: RpcError, replicaLost: boolean): void {
    if (request.state === 'ended') return;
    request.failures++;
    if (replicaLost) request.replicasLost++;
    request.avoid.add(replica.id);
    request.attempt = undefined;
    const decision = decideRetry(
      { code: error.code, replicaLost },
      {
        failures: request.failures,
        replicasLost: request.replicasLost,
        tokensDelivered: request.tokensDelivered > 0,
      },
      this.#budget,
    );
    if (decision.retry) {
      this.#options.metrics.retries.inc();
      this.#waitAgain(request);
      return;
    }
    this.#fail(
      request,
      decision.because === 'not retriable' ? error : exhausted(error, request, decision.because),
    );
  }

  #waitedTooLong(request: RoutedRequest): RpcError {
    const waited = `${Math.round(this.#options.now() - request.waitingSince)} ms`;
    if (this.#servableAt < request.waitingSince) {
      const replicas = this.#options.replicas().map(({ name, state }) => `${name}: ${state.message}`);
      const why = replicas.length === 0 ? 'there is none' : replicas.join('; ');
      return new RpcError(status.UNAVAILABLE, 'NO_REPLICA', `no replica was ready for ${waited} (${why})`, {
        retryAfterMs: RETRY_AFTER_MS,
      });
    }
    return new RpcError(
      status.RESOURCE_EXHAUSTED,
      'QUEUE_TIMEOUT',
      `the request waited ${waited} and no replica had room for it`,
      {
        metadata: { limit: `${this.#options.queue.maxWaitMs} ms` },
        retryAfterMs: RETRY_AFTER_MS,
      },
    );
  }

  #fail(request: RoutedRequest, error: RpcError): void {
    if (!request.end()) return;
    this.#forget(request);
    request.listener.onFailed(error);
  }

  #forget(request: RoutedRequest): void {
    this.#live.delete(request);
    if (this.#live.size > 0) return;
    const idle = this.#idle;
    this.#idle = [];
    for (const resolve of idle) resolve();
  }
}

/** Which model a waiting request goes to: its own while that has a replica, otherwise the one that new requests are for. */
function modelChoice(
  models: readonly ServedModel[],
  replicas: readonly Replica[],
): (request: RoutedRequest) => ServedModel | undefined {
  const counts = new Map<ServedModel, number>();
  for (const { model } of replicas) {
    if (model !== undefined) counts.set(model, (counts.get(model) ?? 0) + 1);
  }
  const served = models.filter((model) => counts.has(model));
  const present = presentModel(served, (model) => counts.get(model)!);
  return ({ model }) => (counts.has(model) ? model : present);
}

/** What the caller of a request is told that the model which came in the place of its own cannot serve. */
function modelChanged(error: unknown): RpcError {
  if (error instanceof RpcError && error.code === status.INVALID_ARGUMENT) return error;
  return new RpcError(
    status.UNAVAILABLE,
    'MODEL_CHANGED',
    `the served model changed while the request waited: ${error instanceof Error ? error.message : String(error)}`,
    { cause: error, retryAfterMs: 0 },
  );
}

/** Why a failure that could be retried was not. */
function exhausted(
  error: RpcError,
  request: RoutedRequest,
  because: 'tokens delivered' | 'attempts' | 'suspect' | 'budget',
): RpcError {
  const why = {
    'tokens delivered': `${request.tokensDelivered} tokens of the answer had been sent`,
    attempts: `it failed ${request.failures} times`,
    suspect: `${request.replicasLost} replicas were lost while they worked on it, so no other one is risked`,
    budget: 'too many requests are being retried',
  }[because];
  const reason = because === 'tokens delivered' ? 'REPLICA_FAILED' : error.reason;
  return new RpcError(error.code, reason, `${error.message}; not tried again: ${why}`, {
    metadata: error.metadata,
    cause: error,
  });
}
