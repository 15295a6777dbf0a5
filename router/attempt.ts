// One try of one request on one replica.

import type { TokenLogprob } from '../gen/proto/internvl/v1/generation.ts';
import type { Done } from '../gen/proto/internvl/engine/v1/engine.ts';
import type { RpcError } from '../rpc/status.ts';
import type { Work } from './request.ts';

export interface AttemptListener {
  /** The replica has taken it. At most once, before any token. */
  onAccepted(): void;
  onTokens(tokenIds: readonly number[], logprobs: readonly TokenLogprob[]): void;
  onDone(done: Done): void;
  /** `replicaLost`: the replica went away, perhaps because of this very request. */
  onFailed(error: RpcError, replicaLost: boolean): void;
  /** The replica goes, or no longer takes anything, and has made no token of it: it is to be placed anew, as if never placed. */
  onHandedBack(): void;
}

/** Tells its listener of one ending at most; after `abort` nothing is told any more. */
export class Attempt {
  readonly handle: number;
  readonly work: Work;
  readonly #listener: AttemptListener;
  readonly #onAbort: () => void;
  #seq: number | undefined;
  #accepted = false;
  #hasTokens = false;
  #ended = false;

  constructor(handle: number, work: Work, listener: AttemptListener, onAbort: () => void) {
    this.handle = handle;
    this.work = work;
    this.#listener = listener;
    this.#onAbort = onAbort;
  }

  /** Undefined until it is submitted. */
  get seq(): number | undefined {
    return this.#seq;
  }

  get hasTokens(): boolean {
    return this.#hasTokens;
  }

  submitted(seq: number): void {
    this.#seq = seq;
  }

  accepted(): void {
    if (this.#accepted || this.#ended) return;
    this.#accepted = true;
    this.#listener.onAccepted();
  }

  tokens(tokenIds: readonly number[], logprobs: readonly TokenLogprob[]): void {
    if (this.#ended || tokenIds.length === 0) return;
    this.accepted();
    this.#hasTokens = true;
    this.#listener.onTokens(tokenIds, logprobs);
  }

  done(done: Done): void {
    if (this.#ended) return;
    this.accepted();
    this.#ended = true;
    this.#listener.onDone(done);
  }

  failed(error: RpcError, replicaLost: boolean): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#listener.onFailed(error, replicaLost);
  }

  handedBack(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#listener.onHandedBack();
  }

  /** Takes it back; the replica frees it within a step. */
  abort(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#onAbort();
  }
}
