// Who waits for a call's answer, and whether they still do. An AbortSignal would say as much, but making and aborting one for each call
// is a good part of what a short call costs.

import { status, type Deadline } from '@grpc/grpc-js';
import { fromServiceError, isServiceError, RpcError } from '../rpc/status.ts';

/** What it takes of a grpc-js call at the server's end. */
export interface ServerCall {
  readonly cancelled: boolean;
  getDeadline(): Deadline;
  on(event: string, listener: (error: Error) => void): unknown;
}

/** What somebody who waits on the caller's behalf needs. */
export interface Leaving {
  /** Why nobody waits for the answer any more; undefined while somebody does. */
  readonly gone: Error | undefined;
  /** Calls the listener when the caller goes, in place of the one before. */
  onGone(listener: (why: Error) => void): void;
}

/** The caller of one call, until it is answered. */
export class Caller implements Leaving {
  /** On the router's clock; undefined when the call has no deadline. */
  readonly deadlineAt: number | undefined;
  readonly #now: () => number;
  #gone: RpcError | undefined;
  #answered = false;
  #listener: ((why: RpcError) => void) | undefined;

  constructor(call: ServerCall, now: () => number) {
    this.#now = now;
    this.deadlineAt = deadlineOf(call, now());
    if (call.cancelled) this.#left();
    call.on('cancelled', () => this.#left());
    call.on('close', () => this.#left());
    // The writer cuts a slow reader off with an error event.
    call.on('error', (error: Error) =>
      this.#leave(() =>
        isServiceError(error)
          ? fromServiceError(error)
          : new RpcError(status.INTERNAL, 'STREAM_FAILED', error.message, { cause: error }),
      ),
    );
  }

  get gone(): RpcError | undefined {
    return this.#gone;
  }

  onGone(listener: (why: RpcError) => void): void {
    this.#listener = listener;
  }

  /** The call is over: every stream closes in the end, and then it means nothing. */
  answered(): void {
    this.#answered = true;
    this.#listener = undefined;
  }

  #left(): void {
    this.#leave(() =>
      this.deadlineAt !== undefined && this.#now() >= this.deadlineAt
        ? new RpcError(
            status.DEADLINE_EXCEEDED,
            'DEADLINE_EXCEEDED',
            'the deadline passed before the answer was complete',
          )
        : new RpcError(status.CANCELLED, 'CANCELLED', 'the client cancelled the call'),
    );
  }

  #leave(why: () => RpcError): void {
    if (this.#answered || this.#gone !== undefined) return;
    this.#gone = why();
    this.#listener?.(this.#gone);
  }
}

function deadlineOf(call: ServerCall, now: number): number | undefined {
  const deadline = call.getDeadline();
  const epochMs = deadline instanceof Date ? deadline.getTime() : deadline;
  return Number.isFinite(epochMs) ? now + (epochMs - Date.now()) : undefined;
}
