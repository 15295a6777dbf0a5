// One writer per stream. grpc-js buffers without bound when the false of `write()` is ignored, and after a cancel `drain` never comes:
// the writer queues behind the transport up to a cap in bytes and age, and a peer that reads too slowly is cut off instead of
// filling this process's memory.

import { status } from '@grpc/grpc-js';
import { RpcError, toServiceError } from './status.ts';

/** What the writer needs of a call, at either end. */
export interface WritableCall<T> {
  write(message: T, written?: () => void): boolean;
  end(): void;
  on(event: string, listener: () => void): unknown;
  emit(event: string, ...args: unknown[]): boolean;
  /** Present at the client's end. */
  cancel?(): void;
}

export interface WriterOptions<T> {
  /** Bytes a message takes on the wire; asked only for messages that have to queue. */
  readonly byteLength: (message: T) => number;
  /** Puts `next` into `last`, which waits to be sent, so that a slow reader gets few large messages in the place of many; false where both must go out. */
  readonly merge?: (last: T, next: T) => boolean;
  /** Most bytes that may queue behind the transport. Default 8 MiB: seconds of tokens for hundreds of sequences. */
  readonly maxBytes?: number;
  /** Longest time without the transport taking anything, in milliseconds. Default 30 s: longer than a network hiccup. */
  readonly maxAgeMs?: number;
}

const DEFAULT_MAX_BYTES = 8 << 20;
const DEFAULT_MAX_AGE_MS = 30_000;

/** Writes messages in order with bounded memory. */
export class StreamWriter<T> {
  readonly #call: WritableCall<T>;
  readonly #byteLength: (message: T) => number;
  readonly #merge: ((last: T, next: T) => boolean) | undefined;
  readonly #maxBytes: number;
  readonly #maxAgeMs: number;
  readonly #queue: { message: T; bytes: number }[] = [];
  #queuedBytes = 0;
  #blocked = false; // the transport has said false and not drained since
  #blockedAt = 0;
  #unsent = 0; // messages that the transport has taken but not written
  #ending = false;
  #error: RpcError | undefined; // to end with, once everything is written
  #over = false;
  #timer: NodeJS.Timeout | undefined;
  #waiters: ((open: boolean) => void)[] = [];

  constructor(call: WritableCall<T>, options: WriterOptions<T>) {
    this.#call = call;
    this.#byteLength = options.byteLength;
    this.#merge = options.merge;
    this.#maxBytes = options.maxBytes ?? DEFAULT_MAX_BYTES;
    this.#maxAgeMs = options.maxAgeMs ?? DEFAULT_MAX_AGE_MS;
    call.on('drain', () => this.#drained());
    for (const event of ['cancelled', 'close', 'error', 'finish']) call.on(event, () => this.#finish());
  }

  /** True until the stream is ended, cancelled, failed or cut off. */
  get open(): boolean {
    return !this.#over && !this.#ending;
  }

  get queuedBytes(): number {
    return this.#queuedBytes;
  }

  /** Sends a message, or queues it; false when the stream is over and the message dropped. */
  write(message: T): boolean {
    if (!this.open) return false;
    if (!this.#blocked) {
      this.#send(message);
      return true;
    }
    const bytes = this.#byteLength(message);
    if (this.#queuedBytes + bytes > this.#maxBytes) {
      this.#cutOff(`${this.#queuedBytes + bytes} bytes wait for the reader, more than ${this.#maxBytes}`);
      return false;
    }
    this.#queuedBytes += bytes;
    const last = this.#queue.at(-1);
    if (last !== undefined && this.#merge?.(last.message, message) === true) last.bytes += bytes;
    else this.#queue.push({ message, bytes });
    return true;
  }

  /** Resolves true once the transport takes messages again, false when the stream is over: a producer that can wait awaits it between messages. */
  ready(): Promise<boolean> {
    if (!this.open) return Promise.resolve(false);
    if (!this.#blocked) return Promise.resolve(true);
    return new Promise((resolve) => this.#waiters.push(resolve));
  }

  /** Ends the stream after everything queued has been sent. */
  end(): void {
    if (this.#over || this.#ending) return;
    this.#ending = true;
    if (!this.#blocked) this.#call.end();
  }

  /** Ends the stream with an error after everything queued has been sent, or after graceMs. */
  failAfterFlush(error: RpcError, graceMs: number): void {
    if (this.#over || this.#ending) return;
    this.#ending = true;
    this.#error = error;
    if (this.#unsent === 0) {
      this.fail(error);
      return;
    }
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.fail(error), graceMs);
  }

  /** Ends the stream with an error now; what is queued is dropped. At the client's end the call is cancelled. */
  fail(error: RpcError): void {
    if (this.#over) return;
    this.#finish();
    abortCall(this.#call, error);
  }

  #send(message: T): void {
    this.#unsent += 1;
    if (this.#call.write(message, this.#written)) return;
    this.#blocked = true;
    this.#blockedAt = performance.now();
    if (this.#timer === undefined) this.#cutOffAfter(this.#maxAgeMs);
  }

  /** A stream may be blocked and drained many times in a second: its timer runs on, and looks at its end how long it has been blocked. */
  #cutOffAfter(ms: number): void {
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      if (!this.#blocked) return;
      const left = this.#blockedAt + this.#maxAgeMs - performance.now();
      if (left > 0) this.#cutOffAfter(left);
      else this.#cutOff(`the reader took nothing for ${this.#maxAgeMs} ms`);
    }, ms).unref();
  }

  /** One for all messages. */
  readonly #written = (): void => {
    this.#unsent -= 1;
    if (this.#error && this.#unsent === 0 && this.#queue.length === 0) this.fail(this.#error);
  };

  #drained(): void {
    if (this.#over || !this.#blocked) return;
    this.#blocked = false;
    let sent = 0;
    for (; sent < this.#queue.length && !this.#blocked; sent++) {
      const entry = this.#queue[sent]!;
      this.#queuedBytes -= entry.bytes;
      this.#send(entry.message);
    }
    this.#queue.splice(0, sent);
    if (this.#blocked) return;
    if (this.#ending && !this.#error) this.#call.end();
    this.#wake(true);
  }

  #cutOff(why: string): void {
    this.fail(new RpcError(status.RESOURCE_EXHAUSTED, 'SLOW_READER', `the stream was cut off: ${why}`));
  }

  #finish(): void {
    this.#over = true;
    clearTimeout(this.#timer);
    this.#queue.length = 0;
    this.#queuedBytes = 0;
    this.#wake(false);
  }

  #wake(open: boolean): void {
    const waiters = this.#waiters;
    this.#waiters = [];
    for (const wake of waiters) wake(open);
  }
}

/** Ends a stream with an error, at either end. */
export function abortCall<T>(call: WritableCall<T>, error: RpcError): void {
  if (call.cancel) call.cancel();
  else call.emit('error', toServiceError(error));
}
