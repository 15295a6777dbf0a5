// One replica: its session, its state, its credits, and the attempts that run on it. Every attempt ends exactly once.

import { credentials, status } from '@grpc/grpc-js';
import { clientChannelOptions } from '../rpc/channel.ts';
import type { Logger } from '../rpc/log.ts';
import { RpcError } from '../rpc/status.ts';
import { FinishReason, type TokenLogprob } from '../gen/proto/internvl/v1/generation.ts';
import {
  EngineClient,
  type Done,
  type EngineInfo,
  type EngineMessage,
  type Rejected,
  type StepOutput,
  type Welcome,
} from '../gen/proto/internvl/engine/v1/engine.ts';
import { Attempt, type AttemptListener } from './attempt.ts';
import { Breaker, type BreakerOptions } from './breaker.ts';
import { Ledger } from './ledger.ts';
import type { ModelRegistry } from './model-registry.ts';
import type { ServedModel } from './models.ts';
import { PictureSender, type PictureCounters } from './picture-sender.ts';
import type { PictureStore } from './picture-store.ts';
import { HeldPrefixes } from './prefix.ts';
import { startProbe } from './probe.ts';
import { RateEstimator } from './rates.ts';
import { NEVER_CONNECTED, transition, type ReplicaEvent, type ReplicaState } from './replica-state.ts';
import { toSubmit, type Work } from './request.ts';
import { Session, type SessionOptions } from './session.ts';
import { StepTokens } from './step-output.ts';
import { fetchTokenizerFiles } from './tokenizer-fetch.ts';
import type { Part, Turns } from './turns.ts';

/** After a probe that failed, unless the breaker says when. */
const PROBE_AGAIN_MS = 1_000;

export interface ReplicaOptions {
  readonly name: string;
  /** Tells it from another replica that had or will have the same name. */
  readonly id: string;
  readonly address: string;
  readonly session: SessionOptions;
  readonly breaker: BreakerOptions;
  readonly maxMessageBytes: number;
  readonly models: ModelRegistry;
  readonly pictures: PictureStore;
  readonly counters: PictureCounters;
  readonly logger: Logger;
  /** In which the tokens of streams that have begun are handed on; one for all replicas. */
  readonly turns: Turns;
  readonly now: () => number;
  /** Its credits or load changed: waiting requests may have a place now. Comes with each step. */
  readonly onLoad: () => void;
  /** Its state changed, or, while it is being emptied, what it still has. */
  readonly onState: () => void;
}

export class Replica {
  readonly name: string;
  readonly id: string;
  readonly address: string;
  readonly rates = new RateEstimator();
  readonly breaker: Breaker;
  readonly #options: ReplicaOptions;
  readonly #client: EngineClient;
  readonly #session: Session;
  readonly #sender: PictureSender;
  readonly #attempts = new Map<number, Attempt>();
  /** Submitted in this session, and in no report of the replica's yet; oldest first. */
  #unaccepted: Attempt[] = [];
  /** Handles of those that were submitted and have no token. */
  readonly #unstarted = new Set<number>();
  /** What is being handed on: of one step, or of several while they come faster than that. Bounded by what live sequences may still have. */
  #step: { readonly tokens: StepTokens; readonly part: Part } | undefined;
  #state: ReplicaState = NEVER_CONNECTED;
  #ledger = new Ledger();
  #prefixes = new HeldPrefixes(0);
  #info: EngineInfo | undefined;
  #drain: string | undefined;
  #epoch: string | undefined;
  #model: ServedModel | undefined;
  #nextHandle = 1;
  /** Rises with each session, so that what an older one started does not touch this one. */
  #generation = 0;
  /** The generation whose admission is under way; 0 = none. */
  #admitting = 0;
  #probeTimer: NodeJS.Timeout | undefined;
  #probing = false;
  #retired = false;
  #closed = false;

  constructor(options: ReplicaOptions) {
    this.name = options.name;
    this.id = options.id;
    this.address = options.address;
    this.#options = options;
    this.breaker = new Breaker(options.breaker);
    this.#client = new EngineClient(
      options.address,
      credentials.createInsecure(),
      clientChannelOptions({ maxMessageBytes: options.maxMessageBytes, ownConnection: true }),
    );
    this.#sender = new PictureSender(options.address, options.counters);
    this.#session = new Session(options.session, {
      onMessage: (message) => this.#received(message),
      onLost: (reason) => this.#lost(reason),
    });
  }

  get state(): ReplicaState {
    return this.#state;
  }

  get info(): EngineInfo | undefined {
    return this.#info;
  }

  /** What it serves in this session; undefined until that is known. */
  get model(): ServedModel | undefined {
    return this.#model;
  }

  get ledger(): Ledger {
    return this.#ledger;
  }

  /** Which drain it obeys, echoed in the report; undefined while it takes work. */
  get drainName(): string | undefined {
    return this.#drain;
  }

  /** What it is believed to have computed in this process of its. */
  get prefixes(): HeldPrefixes {
    return this.#prefixes;
  }

  get attempts(): number {
    return this.#attempts.size;
  }

  holdsPicture(hash: string): boolean {
    return this.#sender.holds(hash);
  }

  open(): void {
    this.#session.open();
  }

  /** While it drains it gets nothing new and finishes what it has; afterwards it is probed before it gets anything. */
  drain(drain: string | undefined): void {
    if (drain === this.#drain || this.#retired) return;
    this.#drain = drain;
    this.#apply({ type: drain === undefined ? 'uncordoned' : 'cordoned' });
    if (this.#state.phase === 'probing') this.#probe();
    this.#options.onState();
  }

  /** It is gone or going for good: nothing new, and no session after this one. Close it once it has no attempts. */
  retire(): void {
    if (this.#retired) return;
    this.#apply({ type: 'cordoned' });
    this.#retired = true;
    this.#session.openNoMore();
    this.#options.onState();
  }

  /** Ends the attempts that have no token, so that their requests can be placed elsewhere. */
  handBackUnstarted(): void {
    for (const attempt of this.#attempts.values()) {
      if (!attempt.hasTokens) this.#handBack(attempt);
    }
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#probeTimer);
    this.#session.close();
    this.#sender.close();
    this.#client.close();
  }

  /** Starts work on the replica; the caller has seen a credit. The listener hears nothing before this returns. */
  run(work: Work, listener: AttemptListener): Attempt {
    const handle = this.#nextHandle;
    this.#nextHandle = handle === 0xffff_ffff ? 1 : handle + 1;
    const attempt = new Attempt(handle, work, listener, () => this.#abort(attempt));
    this.#attempts.set(handle, attempt);
    const tokens =
      work.tokenIds.length +
      work.pictures.reduce((sum, { hash, length }) => sum + (this.holdsPicture(hash) ? 0 : length), 0);
    this.#ledger.reserve(handle, tokens);
    if (work.pictures.length === 0) this.#submit(attempt);
    else void this.#submitWithPictures(attempt);
    return attempt;
  }

  /** What time brings: the breaker's probe is due, or another model may take the place of one that is gone. */
  tick(): void {
    if (this.#state.incompatible && this.#options.models.hasRoom) void this.#admit();
    const { phase, incompatible } = this.#state;
    const held = (phase === 'ejected' && !incompatible) || phase === 'ready';
    if (held && this.breaker.takeProbe(this.#options.now())) this.#probe();
  }

  #received(message: NonNullable<EngineMessage['message']>): void {
    if (message.$case !== 'welcome' && this.#state.phase === 'connecting')
      throw new Error(`${message.$case} came before the welcome`);
    switch (message.$case) {
      case 'welcome':
        this.#welcomed(message.value);
        break;
      case 'stepOutput':
        this.#stepped(message.value);
        break;
      case 'rejected':
        this.#rejected(message.value);
        break;
      case 'needImage':
        void this.#resendPicture(message.value.hash.toString('hex'));
        break;
      case 'draining':
        this.#apply({ type: message.value.undone ? 'drain undone' : 'drain started' });
        if (message.value.undone && this.#state.phase === 'probing') this.#probe();
        break;
      case 'heartbeat':
        break;
    }
    this.#loadChanged();
  }

  #loadChanged(): void {
    if (this.#retired || this.#state.phase === 'draining') this.#options.onState();
    else this.#options.onLoad();
  }

  #welcomed(welcome: Welcome): void {
    if (welcome.info === undefined) throw new Error('the welcome says nothing about the engine');
    this.#generation++;
    this.#info = welcome.info;
    this.#model = undefined;
    this.#ledger = new Ledger();
    this.#unaccepted = [];
    if (welcome.load !== undefined) this.#ledger.report(welcome.load);
    if (welcome.engineEpoch !== this.#epoch) {
      // Another process: its caches are empty and what the old one did says nothing about it.
      this.#epoch = welcome.engineEpoch;
      this.#sender.forgetAll();
      this.#prefixes = new HeldPrefixes(welcome.info.kvBlocks * welcome.info.blockSize);
      this.breaker.reset();
    }
    this.#apply({ type: 'welcomed' });
    void this.#admit();
  }

  async #admit(): Promise<void> {
    const generation = this.#generation;
    const info = this.#info;
    if (info === undefined || this.#admitting === generation) return;
    this.#admitting = generation;
    try {
      const model = await this.#options.models.admit(this.id, info, () => fetchTokenizerFiles(this.#client));
      if (generation !== this.#generation) {
        if (this.#state.phase === 'connecting') this.#options.models.release(this.id);
        return;
      }
      if (typeof model === 'string') {
        this.#apply({ type: 'incompatible', message: model });
        return;
      }
      this.#model = model;
      if (this.#state.incompatible) this.#apply({ type: 'welcomed' });
      this.#probe();
    } catch (error) {
      if (generation !== this.#generation) return;
      this.#session.drop(
        `its tokenizer cannot be used: ${error instanceof Error ? error.message : String(error)}`,
      );
    } finally {
      if (this.#admitting === generation) this.#admitting = 0;
    }
  }

  /** One short generation through all ranks, unless it drains: then it gets nothing, not even that. */
  #probe(): void {
    const model = this.#model;
    if (model === undefined || this.#probing || this.#closed || this.#state.phase === 'draining') return;
    if (this.#ledger.credits === 0) {
      this.#probeFailed('waiting for credit to run a first generation');
      return;
    }
    this.#probing = true;
    startProbe(model, (work, listener) => this.run(work, listener), {
      onPassed: () => {
        this.#probing = false;
        this.breaker.reset();
        this.#apply({ type: 'probe passed' });
      },
      onFailed: (message) => {
        this.#probing = false;
        this.#probeFailed(message);
      },
      onLost: () => {
        this.#probing = false;
        this.breaker.probeLost();
      },
    });
  }

  #probeFailed(message: string): void {
    this.#apply({ type: 'probe failed', message });
    if (this.breaker.state === 'half-open') {
      this.breaker.probed(false, this.#options.now());
      // Then the breaker says when the next probe is due, unless a drain was undone meanwhile and the replica waits for its first one.
      if (this.#state.phase !== 'probing') return;
    }
    clearTimeout(this.#probeTimer);
    const generation = this.#generation;
    this.#probeTimer = setTimeout(() => {
      if (generation === this.#generation && this.#state.phase === 'probing') this.#probe();
    }, PROBE_AGAIN_MS);
  }

  #submit(attempt: Attempt): void {
    const { work, handle } = attempt;
    const seq = this.#ledger.submit(handle);
    attempt.submitted(seq);
    this.#unstarted.add(handle);
    this.#unaccepted.push(attempt);
    this.#session.submit(toSubmit(work, handle, seq, this.#options.now()));
  }

  /** The submission goes out when the replica holds every picture, so that it never waits inside the engine. */
  async #submitWithPictures(attempt: Attempt): Promise<void> {
    const generation = this.#generation;
    try {
      await Promise.all(
        attempt.work.pictures.map(async ({ hash }) => {
          const file = this.#options.pictures.file(hash);
          if (file === undefined)
            throw new Error(`picture ${hash} is no longer held although a request needs it`);
          await this.#sender.ensure(hash, file);
        }),
      );
      // It may have been aborted, or its session lost, meanwhile.
      if (generation === this.#generation && this.#attempts.has(attempt.handle)) this.#submit(attempt);
    } catch (error) {
      if (generation !== this.#generation) return;
      // A process that ends refuses pictures too.
      if (this.#state.phase === 'draining') this.#handBack(attempt);
      else this.#fail(attempt, asRpcError(error, `replica ${this.name} did not take a picture`));
    }
  }

  async #resendPicture(hash: string): Promise<void> {
    const file = this.#options.pictures.file(hash);
    const waiting = (): Attempt[] =>
      [...this.#attempts.values()].filter((attempt) =>
        attempt.work.pictures.some((picture) => picture.hash === hash),
      );
    const generation = this.#generation;
    try {
      if (file === undefined)
        throw new RpcError(
          status.UNAVAILABLE,
          'IMAGE_LOST',
          `replica ${this.name} asked for picture ${hash}, which is no longer held`,
        );
      await this.#sender.resend(hash, file);
    } catch (error) {
      if (generation !== this.#generation) return;
      for (const attempt of waiting()) {
        if (!attempt.hasTokens)
          this.#abortAndFail(attempt, asRpcError(error, `replica ${this.name} did not take a picture again`));
      }
    }
  }

  #stepped(output: StepOutput): void {
    if (output.load !== undefined) {
      this.#ledger.report(output.load);
      if (output.load.waitingUncachedTokens === 0)
        this.rates.step(output.load.running, output.load.stepUs / 1e6);
      this.#tellAccepted();
    }
    const tokens = new StepTokens(output, this.#step?.tokens);
    if (this.#step !== undefined) this.#options.turns.end(this.#step.part);
    // Somebody waits for a first token, and the end of an answer makes room for another; the others only go on.
    const urgent = new Set(this.#unstarted);
    for (const { handle } of output.done) urgent.add(handle);
    tokens.first(urgent, this.#tokens);
    for (const done of output.done) this.#done(done);
    const part: Part = (count) => tokens.next(count, this.#tokens);
    this.#step = { tokens, part };
    this.#options.turns.begin(part);
  }

  /** Hands on what has come. */
  #finishStep(): void {
    if (this.#step === undefined) return;
    const { tokens, part } = this.#step;
    this.#step = undefined;
    this.#options.turns.end(part);
    tokens.next(Infinity, this.#tokens);
  }

  readonly #tokens = (
    handle: number,
    tokenIds: readonly number[],
    logprobs: readonly TokenLogprob[],
  ): void => {
    if (this.#unstarted.size > 0 && tokenIds.length > 0) this.#unstarted.delete(handle);
    this.#attempts.get(handle)?.tokens(tokenIds, logprobs);
  };

  #tellAccepted(): void {
    const count = this.#unaccepted.findIndex(({ seq }) => !this.#ledger.accepted(seq!));
    const accepted = this.#unaccepted.splice(0, count < 0 ? this.#unaccepted.length : count);
    for (const attempt of accepted) attempt.accepted();
  }

  #done(done: Done): void {
    const attempt = this.#take(done.handle);
    if (attempt === undefined) return;
    const uncached = attempt.work.tokenIds.length - done.cachedTokens;
    this.rates.prefill(uncached, (done.firstTokenUs - done.queueUs) / 1e6);
    if (done.finishReason !== FinishReason.ABORT) this.breaker.record(false, this.#options.now());
    attempt.done(done);
  }

  #rejected(rejected: Rejected): void {
    const attempt = this.#attempts.get(rejected.handle);
    if (attempt === undefined) return;
    if (attempt.seq !== undefined) this.#ledger.settle(attempt.seq);
    const reason = rejected.reason === '' ? 'REJECTED' : rejected.reason;
    if (reason === 'DRAINING') {
      // The submission and the news of the drain crossed. It was not taken, so it costs the request nothing.
      this.#apply({ type: 'drain started' });
      this.#handBack(attempt);
      return;
    }
    // OK, or a number that is no code, is not an answer.
    const code = rejected.code !== 0 && status[rejected.code] !== undefined ? rejected.code : status.INTERNAL;
    this.#fail(attempt, new RpcError(code, reason, rejected.message));
  }

  #fail(attempt: Attempt, error: RpcError): void {
    if (this.#take(attempt.handle) === undefined) return;
    const theirs = error.code === status.INTERNAL || error.code === status.UNAVAILABLE;
    if (theirs) this.#recordFailure(error.message);
    attempt.failed(error, false);
  }

  #abortAndFail(attempt: Attempt, error: RpcError): void {
    this.#session.abort(attempt.handle);
    this.#fail(attempt, error);
  }

  #handBack(attempt: Attempt): void {
    if (this.#take(attempt.handle) === undefined) return;
    // A replica that has ended it already ignores this.
    if (attempt.seq !== undefined) this.#session.abort(attempt.handle);
    attempt.handedBack();
    this.#loadChanged();
  }

  #abort(attempt: Attempt): void {
    if (this.#take(attempt.handle) === undefined) return;
    if (attempt.seq !== undefined) this.#session.abort(attempt.handle);
    // It worked for as long as it was asked to.
    if (attempt.hasTokens) this.breaker.record(false, this.#options.now());
    this.#loadChanged();
  }

  /** Removes an attempt that ended and gives back what it held. */
  #take(handle: number): Attempt | undefined {
    const attempt = this.#attempts.get(handle);
    if (attempt === undefined) return undefined;
    this.#attempts.delete(handle);
    this.#unstarted.delete(handle);
    this.#ledger.release(handle);
    return attempt;
  }

  #lost(reason: string): void {
    // Not a matter for the breaker: without a session it gets nothing, and after the next welcome nothing before its probe has passed.
    this.#finishStep();
    this.#unstarted.clear();
    this.#generation++;
    this.#ledger = new Ledger();
    this.#unaccepted = [];
    clearTimeout(this.#probeTimer);
    this.#options.models.release(this.id);
    this.#model = undefined;
    this.#apply({ type: 'lost', message: reason });
    const attempts = [...this.#attempts.values()];
    this.#attempts.clear();
    for (const attempt of attempts) {
      // That it ended was meant: no request is suspected of it.
      if (this.#retired && !attempt.hasTokens) {
        attempt.handedBack();
        continue;
      }
      attempt.failed(
        new RpcError(status.UNAVAILABLE, 'REPLICA_FAILED', `replica ${this.name} was lost: ${reason}`),
        true,
      );
    }
    this.#options.onState();
  }

  #recordFailure(message: string): void {
    if (this.breaker.record(true, this.#options.now())) {
      this.#apply({ type: 'ejected', message: `ejected after repeated failures, the last one: ${message}` });
    }
  }

  #apply(event: ReplicaEvent): void {
    const before = this.#state;
    this.#state = transition(before, event);
    if (this.#state !== before) this.#options.onState();
    if (this.#state.phase === before.phase || this.#closed || this.#retired) return;
    const { logger } = this.#options;
    if (this.#state.phase === 'ready') logger.info('replica ready', { replica: this.name });
    else if (this.#state.phase === 'connecting')
      logger.warn('replica lost', { replica: this.name, err: this.#state.message });
    else
      logger.info('replica state', {
        replica: this.name,
        state: this.#state.phase,
        reason: this.#state.message,
      });
  }
}

function asRpcError(error: unknown, what: string): RpcError {
  if (error instanceof RpcError) return error;
  return new RpcError(
    status.UNAVAILABLE,
    'REPLICA_FAILED',
    `${what}: ${error instanceof Error ? error.message : String(error)}`,
    { cause: error },
  );
}
