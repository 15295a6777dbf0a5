// A call at the server's end: the part of grpc-js's surface that handlers use, over a stream of our own HTTP/2. What it sends is written to
// where it leaves from, without anything between.

import { EventEmitter } from 'node:events';
import { status, type Metadata } from '@grpc/grpc-js';
import { malformedMessage } from '../guard.ts';
import type { Connection } from '../http2/connection.ts';
import type { RequestHead } from '../http2/request-head.ts';
import type { Http2Stream, StreamListener } from '../http2/stream.ts';
import { toServiceError } from '../status.ts';
import type { Pieces } from './message-reader.ts';
import type { ServedMethod } from './method.ts';
import { RequestBody, type BodyListener, type BodyOptions } from './request-body.ts';
import { requestMetadata } from './request-metadata.ts';
import { headersBlock, statusBlock, trailersBlock, type CallStatus } from './response-headers.ts';
import { BYTES, sendMessage } from './send-message.ts';

/** What a timer can hold. */
const MOST_TIMER_MS = 0x7fff_ffff;
const OK: CallStatus = { code: status.OK, details: '' };

export interface CallOptions extends BodyOptions {
  readonly method: ServedMethod;
  readonly connection: Connection;
  readonly stream: Http2Stream;
  readonly head: RequestHead;
  /** In milliseconds. */
  readonly timeoutMs: number | undefined;
}

/**
 * Tells of 'cancelled' when nobody waits for its answer any more, of 'drain' after a `write` that returned false, and of 'close' last. An 'error' that is
 * emitted on it ends it with that status.
 */
export abstract class ServerCall extends EventEmitter implements StreamListener, BodyListener {
  cancelled = false;
  protected readonly method: ServedMethod;
  readonly #options: CallOptions;
  readonly #stream: Http2Stream;
  readonly #body: RequestBody;
  readonly #deadline: number;
  readonly #maxMessageBytes: number;
  #timer: NodeJS.Timeout | undefined;
  #metadata: Metadata | undefined;
  #headersSent = false;
  #ended = false;
  #closed = false;
  /** Told once what is queued has left. */
  #written: (() => void)[] = [];

  constructor(options: CallOptions) {
    super();
    this.#options = options;
    this.method = options.method;
    this.#stream = options.stream;
    this.#maxMessageBytes = options.maxMessageBytes;
    this.#body = new RequestBody(options, this);
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
    this.#body.push(bytes, start, end);
  }

  onEnd(): void {
    this.#body.end((whole) => {
      if (this.#ended) return;
      if (whole) this.halfClosed();
      else this.fail({ code: status.INTERNAL, details: 'The request ended in the middle of a message' });
    });
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

  // --- what its body tells

  message(pieces: Pieces): void {
    if (this.#ended) return;
    let message: unknown;
    try {
      message = this.method.deserialize(pieces);
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      this.fail(toServiceError(malformedMessage(this.method.path, why)));
      return;
    }
    this.take(message);
  }

  consumed(bytes: number): void {
    this.#stream.consumed(bytes);
  }

  get backlog(): boolean {
    return false;
  }

  // --- what a kind of call does with it

  /** Its stream is told of it from now on. */
  abstract start(): void;
  protected abstract take(message: unknown): void;
  protected abstract halfClosed(): void;

  /** Messages wait no longer. */
  protected release(): void {
    this.#body.release();
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
    this.#body.close();
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
