// One request on its way through the router. It ends exactly once.

import type { Sampling, TokenLogprob } from '../gen/proto/internvl/v1/generation.ts';
import type { Done, Submit } from '../gen/proto/internvl/engine/v1/engine.ts';
import type { RpcError } from '../rpc/status.ts';
import type { ServedModel } from './models.ts';
import { prefixBlocks } from './prefix.ts';

/** A picture of a prompt: which one, and which run of image tokens is its place. */
export interface PicturePlace {
  readonly hash: string;
  readonly offset: number;
  readonly length: number;
}

/** What a replica is given to do. */
export interface Work {
  readonly tokenIds: readonly number[];
  readonly pictures: readonly PicturePlace[];
  /** Limits resolved, stop strings left out: those are found in the text, here. */
  readonly sampling: Sampling;
  readonly logprobs: number | undefined;
  /** 0 batch, 1 normal, 2 high. */
  readonly priorityClass: number;
  /** On the router's clock, in milliseconds. */
  readonly deadlineAt: number | undefined;
  readonly cacheSalt: string;
}

/** The work as a submission; `now` is on the clock of `deadlineAt`. */
export function toSubmit(work: Work, handle: number, seq: number, now: number): Submit {
  const { logprobs, deadlineAt } = work;
  return {
    handle,
    seq,
    tokenIds: work.tokenIds as number[],
    images: work.pictures.map(({ hash, offset, length }) => ({
      hash: Buffer.from(hash, 'hex'),
      offset,
      length,
    })),
    sampling: work.sampling,
    ...(logprobs === undefined ? {} : { logprobs }),
    priority: work.priorityClass,
    // 0 would mean never.
    deadlineMs: deadlineAt === undefined ? 0 : Math.max(1, Math.ceil(deadlineAt - now)),
    cacheSalt: work.cacheSalt,
  };
}

/** What the caller of a request hears, in this order: accepted at most once, tokens, then finished or failed. */
export interface RequestListener {
  onAccepted(replica: string): void;
  onTokens(tokenIds: readonly number[], logprobs: readonly TokenLogprob[]): void;
  onFinished(done: Done, replica: string): void;
  onFailed(error: RpcError): void;
}

/** An attempt that can be taken back. */
export interface Abortable {
  abort(): void;
}

export interface RequestOptions {
  /** What `work` was tokenized for. */
  readonly model: ServedModel;
  readonly work: Work;
  /** The same request's work for another model; throws RpcError when that model cannot serve it. Called before the first token only. */
  readonly retarget: (model: ServedModel) => Work;
  readonly affinityKey: string;
  /** Bytes that it costs to wait. */
  readonly bytes: number;
  readonly now: number;
  readonly listener: RequestListener;
}

export type RequestState = 'waiting' | 'running' | 'ended';

/** A request's state; only the dispatcher changes it. */
export class RoutedRequest {
  model: ServedModel;
  work: Work;
  readonly affinityKey: string;
  readonly bytes: number;
  readonly enqueuedAt: number;
  readonly listener: RequestListener;
  /** Ids of replicas that failed it. */
  readonly avoid = new Set<string>();
  state: RequestState = 'waiting';
  waitingSince: number;
  /** When it first left the queue. */
  placedAt: number | undefined;
  attempt: Abortable | undefined;
  accepted = false;
  failures = 0;
  replicasLost = 0;
  tokensDelivered = 0;
  #prefixBlocks: readonly number[] | undefined;
  readonly #retarget: (model: ServedModel) => Work;

  constructor(options: RequestOptions) {
    this.model = options.model;
    this.#retarget = options.retarget;
    this.work = options.work;
    this.affinityKey = options.affinityKey;
    this.bytes = options.bytes;
    this.enqueuedAt = options.now;
    this.waitingSince = options.now;
    this.listener = options.listener;
  }

  get priorityClass(): number {
    return this.work.priorityClass;
  }

  /** Pictures count twice: their tokens are encoded, then computed like any other. */
  get workTokens(): number {
    return this.work.tokenIds.length + this.work.pictures.reduce((sum, picture) => sum + picture.length, 0);
  }

  /** What its prompt may share with others'. */
  get prefixBlocks(): readonly number[] {
    return (this.#prefixBlocks ??= prefixBlocks(this.work));
  }

  /** Makes it a request to another model; throws RpcError when that one cannot serve it. */
  retarget(model: ServedModel): void {
    this.work = this.#retarget(model);
    this.#prefixBlocks = undefined;
    this.model = model;
  }

  /** Marks it ended; false when it was already, and then nobody may be told again. */
  end(): boolean {
    if (this.state === 'ended') return false;
    this.state = 'ended';
    this.attempt = undefined;
    return true;
  }
}
