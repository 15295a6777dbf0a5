// One stream of a session: a request and its answer, at either end. What it sends goes straight into the session's outbox while all windows
// are open, and waits in a queue of the stream otherwise.

import { ErrorCode, Flag, FrameType, MOST_FRAME_BYTES } from './protocol.ts';
import type { Outbox } from './outbox.ts';
import type { Sender, Sending } from './sending.ts';

/** Hears of a stream. */
export interface StreamListener {
  /** At the client's end: the headers of the answer, and those behind it. */
  onHeaders?(fields: readonly string[], ended: boolean): void;
  /** A part of the body, valid until this returns. It counts against the stream's window until `consumed`. */
  onData(bytes: Buffer, start: number, end: number): void;
  /** The body is complete. */
  onEnd(): void;
  /** Nothing waits to be sent any more. */
  onDrained(): void;
  /** It ended before its answer did: it was reset with this code, or the connection is gone. */
  onGone(code: ErrorCode | undefined): void;
  /** The answer is on its way, whole. */
  onClosed(): void;
}

/** What a stream needs of its session. */
export interface StreamHost {
  readonly outbox: Outbox;
  readonly sending: Sending;
  /** DATA went into the outbox. */
  sent(): void;
  headers(streamId: number, block: Buffer, endStream: boolean): void;
  windowUpdate(streamId: number, bytes: number): void;
  resetStream(streamId: number, code: ErrorCode): void;
  credit(bytes: number): void;
  forget(stream: Http2Stream): void;
}

export class Http2Stream implements Sender {
  readonly id: number;
  /** Where `reserve` makes room. */
  readonly outbox: Outbox;
  listener: StreamListener | undefined;
  /** What the peer takes on this stream; negative after it made its initial window smaller. */
  sendWindow: number;
  /** What the peer may still send on it. */
  receiveWindow: number;
  /** The peer has sent all. */
  remoteEnded = false;
  /** Bytes of the body that have come, and that were announced. */
  received = 0;
  contentLength: number | undefined;
  readonly #host: StreamHost;
  readonly #window: number;
  #consumed = 0;
  #queue: Buffer[] = [];
  /** How much of the first in the queue is sent. */
  #offset = 0;
  /** To send behind the queue. */
  #trailers: Buffer | undefined;
  /** Nothing comes behind the queue of a request. */
  #halfClosed = false;
  #over = false;

  constructor(id: number, host: StreamHost, sendWindow: number, receiveWindow: number) {
    this.id = id;
    this.#host = host;
    this.outbox = host.outbox;
    this.sendWindow = sendWindow;
    this.receiveWindow = receiveWindow;
    this.#window = receiveWindow;
  }

  /** The answer is complete, or nobody waits for it any more. */
  get over(): boolean {
    return this.#over;
  }

  get hasQueue(): boolean {
    return this.#queue.length > 0 || this.#trailers !== undefined;
  }

  respond(block: Buffer): void {
    if (!this.#over) this.#host.headers(this.id, block, false);
  }

  /** Room for DATA that goes out in this turn: where in the outbox to write it. -1 when it has to go through `queue`. */
  reserve(length: number): number {
    if (this.#queue.length > 0 || this.sendWindow < length || length > MOST_FRAME_BYTES || this.#over)
      return -1;
    const host = this.#host;
    if (host.sending.crowded || host.sending.room() < length) return -1;
    this.sendWindow -= length;
    host.sending.sent(length);
    host.sent();
    return this.outbox.frame(FrameType.DATA, 0, this.id, length);
  }

  /** Sends bytes, in one piece or several, when the peer takes them. They must not change any more. */
  queue(...pieces: readonly Buffer[]): void {
    if (this.#over) return;
    this.#queue.push(...pieces);
    this.#host.sending.wait(this);
  }

  /** Ends a request once everything queued is sent: only its answer is to come. */
  halfClose(): void {
    if (this.#over || this.#halfClosed) return;
    this.#halfClosed = true;
    if (this.#queue.length === 0) this.#sendEnd();
  }

  /** Nothing more is wanted of an answer; a request that is still being sent is taken back. */
  release(): void {
    if (!this.#halfClosed || this.#queue.length > 0 || !this.remoteEnded) {
      this.reset(ErrorCode.CANCEL);
      return;
    }
    if (this.#over) return;
    this.#over = true;
    this.#host.forget(this);
  }

  /** Ends the answer once everything queued is sent. */
  finish(trailers: Buffer): void {
    if (this.#over || this.#trailers !== undefined) return;
    this.#trailers = trailers;
    if (this.#queue.length === 0) this.#end();
  }

  /** Ends the answer now; what is queued is dropped. */
  finishNow(trailers: Buffer): void {
    if (this.#over) return;
    this.#queue = [];
    this.#trailers = trailers;
    this.#end();
  }

  reset(code: ErrorCode): void {
    if (this.#over) return;
    this.#over = true;
    this.#queue = [];
    this.#host.resetStream(this.id, code);
    this.#host.forget(this);
  }

  /** It was reset with this code, or the connection is gone. */
  gone(code?: ErrorCode): void {
    if (this.#over) return;
    this.#over = true;
    this.#queue = [];
    this.#host.forget(this);
    this.listener?.onGone(code);
  }

  /** Bytes of the body were used: the peer may send as many more. */
  consumed(bytes: number): void {
    this.#host.credit(bytes);
    if (this.remoteEnded || this.#over) return;
    this.#consumed += bytes;
    if (this.#consumed < this.#window / 2) return;
    this.#host.windowUpdate(this.id, this.#consumed);
    this.receiveWindow += this.#consumed;
    this.#consumed = 0;
  }

  sendQueued(): boolean {
    const host = this.#host;
    const first = this.#queue[0];
    if (first === undefined || this.#over) return false;
    const count = Math.min(
      first.length - this.#offset,
      this.sendWindow,
      host.sending.room(),
      MOST_FRAME_BYTES,
    );
    if (count <= 0) return false;
    this.sendWindow -= count;
    host.sending.sent(count);
    host.sent();
    const at = host.outbox.frame(FrameType.DATA, 0, this.id, count);
    first.copy(host.outbox.bytes, at, this.#offset, this.#offset + count);
    this.#offset += count;
    if (this.#offset === first.length) {
      this.#offset = 0;
      this.#queue.shift();
    }
    if (this.#queue.length > 0) return this.sendWindow > 0;
    if (this.#trailers !== undefined) this.#end();
    else if (this.#halfClosed) this.#sendEnd();
    else this.listener?.onDrained();
    return false;
  }

  #sendEnd(): void {
    this.outbox.frame(FrameType.DATA, Flag.END_STREAM, this.id, 0);
    this.#host.sent();
  }

  #end(): void {
    this.#over = true;
    const host = this.#host;
    host.headers(this.id, this.#trailers!, true);
    // What the peer would still send is of no use to anybody.
    if (!this.remoteEnded) host.resetStream(this.id, ErrorCode.NO_ERROR);
    host.forget(this);
    this.listener?.onClosed();
  }
}
