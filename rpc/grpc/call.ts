// A call at the server's end: the part of grpc-js's surface that handlers use, over a stream of our own HTTP/2. What it sends is written to
// where it leaves from, without anything between.

import { EventEmitter } from 'node:events';
import { status, type Metadata } from '@grpc/grpc-js';
import { malformedMessage } from '../guard.ts';
import type { Connection } from '../http2/connection.ts';
import type { RequestHead } from '../http2/request-head.ts';
import type { Http2Stream, StreamListener } from '../http2/stream.ts';
import { toServiceError } from '../status.ts';
import type { Inflater } from './inflater.ts';
import { MessageReader, type BodyFault } from './message-reader.ts';
import type { ServedMethod } from './method.ts';
import type { ReceiveBudget } from './receive-budget.ts';
import { requestMetadata } from './request-metadata.ts';
import { headersBlock, statusBlock, trailersBlock, type CallStatus } from './response-headers.ts';
import { BYTES, sendMessage } from './send-message.ts';

/** What a timer can hold. */
const MOST_TIMER_MS = 0x7fff_ffff;
const OK: CallStatus = { code: status.OK, details: '' };

export interface CallOptions {
  readonly method: ServedMethod;
  readonly connection: Connection;
  readonly stream: Http2Stream;
  readonly head: RequestHead;
  /** In milliseconds. */
  readonly timeoutMs: number | undefined;
  readonly compressed: boolean;
  readonly inflater: Inflater;
  readonly budget: ReceiveBudget;
  readonly maxMessageBytes: number;
}

/**
 * Tells of 'cancelled' when nobody waits for its answer any more, of 'drain' after a `write` that returned false, and of 'close' last. An 'error' that is
 * emitted on it ends it with that status.
 */
export abstract class ServerCall extends EventEmitter implements StreamListener {
  cancelled = false;
  protected readonly method: ServedMethod;
  readonly #options: CallOptions;
  readonly #stream: Http2Stream;
  readonly #reader: MessageReader;
  readonly #deadline: number;
  readonly #maxMessageBytes: number;
  #timer: NodeJS.Timeout | undefined;
  #metadata: Metadata | undefined;
  #headersSent = false;
  #ended = false;
  #closed = false;
  /** Told once what is queued has left. */
  #written: (() => void)[] = [];
  /** Messages behind a compressed one wait for it. */
  #inflating: Promise<void> | undefined;
  /** Bytes that came while messages wait: the peer may not send as many again yet. */
  #held = 0;

  constructor(options: CallOptions) {
    super();
    this.#options = options;
    this.method = options.method;
    this.#stream = options.stream;
    this.#maxMessageBytes = options.maxMessageBytes;
    this.#reader = new MessageReader({
      mostBytes: options.maxMessageBytes,
      budget: options.budget,
      take: (message, compressed) => this.#message(message, compressed),
      refuse: (fault) => this.#refuseBody(fault),
    });
    const { timeoutMs } = options;
    this.#deadline = timeoutMs === undefined ? Infinity : Date.now() + timeoutMs;
    if (timeoutMs !== undefined && timeoutMs <= MOST_TIMER_MS)
      this.#timer = setTimeout(() => this.#expired(), timeoutMs).unref();
    this.on('error', (error: unknown) => this.#failed(error));
  }

  get metadata(): Metadata {
    return (this.#metadata ??= requestMetadata(this.#options.head.fields));
  }

  /** Milliseconds of the epoch, or Infinity. */
  getDeadline(): number {
    return this.#deadline;
  }

  getPeer(): string {
    return this.#options.connection.peer;
  }

  getPath(): string {
    return this.method.path;
  }

  getHost(): string {
    return this.#options.head.authority;
  }

  /** Sends the headers of the answer ahead of its first message. */
  sendMetadata(metadata?: Metadata): void {
    if (this.#headersSent || this.#ended) return;
    this.#headersSent = true;
    this.#stream.respond(headersBlock(metadata));
  }

  /** False when it has to wait for the peer, and those behind it should: 'drain' follows. `written` is told when it has left. */
  write(message: unknown, written?: () => void): boolean {
    if (this.#ended) return false;
    const encoder = this.method.encoder ?? BYTES;
    const payload = this.method.encoder === undefined ? this.method.serialize(message) : message;
    const length = encoder.byteLength(payload);
    if (length > this.#maxMessageBytes) {
      const details = `Attempted to send message with a size larger than ${this.#maxMessageBytes}: ${length}`;
      this.fail({ code: status.RESOURCE_EXHAUSTED, details });
      return false;
    }
    if (!this.#headersSent) this.sendMetadata();
    if (sendMessage(this.#stream, encoder, payload, length)) {
      written?.();
      return true;
    }
    if (!this.#stream.hasQueue) written?.();
    else if (written !== undefined) this.#written.push(written);
    return !this.#stream.hasQueue;
  }

  /** Ends the answer well, behind everything written. */
  end(trailers?: Metadata): void {
    if (this.#ended) return;
    this.#settle();
    if (!this.#headersSent) this.#stream.respond(headersBlock());
    this.#stream.finish(trailersBlock(trailers === undefined ? OK : { ...OK, metadata: trailers }));
  }

  /** Ends the answer with a status now; what waits for the peer is dropped. */
  fail(why: CallStatus): void {
    if (this.#ended) return;
    this.#settle();
    this.#stream.finishNow(this.#headersSent ? trailersBlock(why) : statusBlock(why));
  }

  // --- what the stream tells

  onData(bytes: Buffer, start: number, end: number): void {
    if (!this.#ended) this.#reader.push(bytes, start, end);
    this.#held += end - start;
    this.release();
  }

  onEnd(): void {
    if (this.#inflating !== undefined) void this.#inflating.then(() => this.#halfClosed());
    else this.#halfClosed();
  }

  onDrained(): void {
    for (const written of this.#written.splice(0)) written();
    this.emit('drain');
  }

  onGone(): void {
    this.#settle();
    this.#cancel();
    this.#close();
  }

  onClosed(): void {
    // Not before whoever ended it has gone on.
    process.nextTick(() => this.#close());
  }

  // --- what a kind of call does with it

  /** Its stream is told of it from now on. */
  abstract start(): void;
  protected abstract take(message: unknown): void;
  protected abstract halfClosed(): void;

  /** Messages wait to be taken. */
  protected get backlog(): boolean {
    return false;
  }

  /** Lets the peer send on, unless messages wait. */
  protected release(): void {
    if (this.#held === 0 || (!this.#ended && (this.#inflating !== undefined || this.backlog))) return;
    const held = this.#held;
    this.#held = 0;
    this.#stream.consumed(held);
  }

  protected get ended(): boolean {
    return this.#ended;
  }

  /** Calls the handler. */
  protected run(): void {
    const { method } = this;
    try {
      if (method.responseStream) method.handle(this);
      else method.handle(this, (error, response, trailers) => this.#answer(error, response, trailers));
    } catch (error) {
      this.#failed(error);
    }
  }

  #answer(error: unknown, response: unknown, trailers: Metadata | undefined): void {
    if (error !== null && error !== undefined) {
      this.#failed(error, trailers);
      return;
    }
    try {
      this.write(response);
    } catch (failure) {
      this.fail({ code: status.INTERNAL, details: `Error serializing response: ${String(failure)}` });
      return;
    }
    this.end(trailers);
  }

  #message(message: Buffer, compressed: boolean): void {
    if (!compressed && this.#inflating === undefined) {
      this.#deserialize(message);
      return;
    }
    if (compressed && !this.#options.compressed) {
      this.fail({
        code: status.INTERNAL,
        details: 'Received a compressed message of a call without grpc-encoding',
      });
      return;
    }
    const inflating = this.#inflate(this.#inflating, message, compressed);
    this.#inflating = inflating;
    void inflating.finally(() => {
      if (this.#inflating !== inflating) return;
      this.#inflating = undefined;
      this.release();
    });
  }

  async #inflate(before: Promise<void> | undefined, message: Buffer, compressed: boolean): Promise<void> {
    await before;
    if (this.#ended) return;
    try {
      this.#deserialize(compressed ? await this.#options.inflater.inflate(message) : message);
    } catch (error) {
      const tooLarge = error instanceof Error && 'code' in error && error.code === 'ERR_BUFFER_TOO_LARGE';
      this.fail(
        tooLarge
          ? {
              code: status.RESOURCE_EXHAUSTED,
              details: `Received a message that decompresses to more than ${this.#maxMessageBytes} bytes`,
            }
          : { code: status.INTERNAL, details: 'Received a compressed message that is no gzip' },
      );
    }
  }

  #deserialize(bytes: Buffer): void {
    if (this.#ended) return;
    let message: unknown;
    try {
      message = this.method.deserialize(bytes);
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      this.fail(toServiceError(malformedMessage(this.method.path, why)));
      return;
    }
    this.take(message);
  }

  #halfClosed(): void {
    if (this.#ended) return;
    if (this.#reader.complete) this.halfClosed();
    else this.fail({ code: status.INTERNAL, details: 'The request ended in the middle of a message' });
  }

  #refuseBody(fault: BodyFault): void {
    switch (fault.kind) {
      case 'too large': {
        const details = `Received message larger than max (${fault.bytes} vs. ${this.#maxMessageBytes})`;
        this.fail({ code: status.RESOURCE_EXHAUSTED, details });
        break;
      }
      case 'no room': {
        const details = `Messages that are still coming in hold ${this.#options.budget.taken} bytes already`;
        this.fail({ code: status.RESOURCE_EXHAUSTED, details });
        break;
      }
      case 'bad flag': {
        const details = `Received a message whose compressed flag is ${fault.flag}, not 0 or 1`;
        this.fail({ code: status.INTERNAL, details });
      }
    }
  }

  #expired(): void {
    this.fail({ code: status.DEADLINE_EXCEEDED, details: 'Deadline exceeded' });
    this.#cancel();
  }

  /** With whatever a handler gave for an error; grpc-js reads the same of its properties. */
  #failed(error: unknown, trailers?: Metadata): void {
    const given = (typeof error === 'object' && error !== null ? error : {}) as {
      code?: unknown;
      details?: unknown;
      message?: unknown;
      metadata?: Metadata;
    };
    const text = given.details ?? given.message;
    this.fail({
      code: Number.isInteger(given.code) ? (given.code as number) : status.UNKNOWN,
      details: typeof text === 'string' ? text : 'Unknown Error',
      metadata: given.metadata ?? trailers,
    });
  }

  #settle(): void {
    this.#ended = true;
    clearTimeout(this.#timer);
    this.#reader.close();
    this.release();
  }

  #cancel(): void {
    if (this.cancelled) return;
    this.cancelled = true;
    this.emit('cancelled', 'cancelled');
  }

  #close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#written = [];
    this.emit('close');
  }
}
