// The client's end: requests go out on streams that it opens.

import type { HeaderList } from './header-decoder.ts';
import { ErrorCode, MOST_WINDOW_BYTES, PREFACE, ProtocolError, Setting } from './protocol.ts';
import { Session, type SessionOptions } from './session.ts';
import type { Http2Stream, StreamListener } from './stream.ts';

const FIRST_STREAM = 1;

export class ClientSession extends Session {
  #nextStreamId = FIRST_STREAM;
  #goingAway = false;

  constructor(options: SessionOptions) {
    super(options, false);
    this.outbox.raw(PREFACE);
    this.greet([[Setting.ENABLE_PUSH, 0]]);
  }

  /** Whether `request` may be called: the peer takes more requests on this connection. */
  get open(): boolean {
    return !this.ending && !this.#goingAway && this.#nextStreamId < MOST_WINDOW_BYTES;
  }

  /** Ends after the last answer once the peer wants no more requests. */
  override get ending(): boolean {
    return super.ending || (this.#goingAway && this.streams.size === 0);
  }

  /** Begins a request with these headers. */
  request(headers: Buffer, listener: StreamListener): Http2Stream {
    const stream = this.openStream(this.#nextStreamId);
    this.#nextStreamId += 2;
    stream.listener = listener;
    stream.respond(headers);
    return stream;
  }

  protected override get lastServedId(): number {
    return 0;
  }

  protected override goingAway(lastStreamId: number): void {
    this.#goingAway = true;
    for (const stream of Array.from(this.streams.values()))
      if (stream.id > lastStreamId) stream.gone(ErrorCode.REFUSED_STREAM);
    if (this.ending) this.writer.onOutput();
  }

  protected headerList(streamId: number, ended: boolean, list: HeaderList): void {
    if (streamId > this.lastStreamId)
      throw new ProtocolError(ErrorCode.PROTOCOL_ERROR, `HEADERS on stream ${streamId}, which is idle`);
    const stream = this.streams.get(streamId);
    if (stream === undefined) return; // nobody waits for its answer any more
    if (stream.remoteEnded || list.malformed || list.tooLarge) {
      this.spoilStream(streamId, stream.remoteEnded ? ErrorCode.STREAM_CLOSED : ErrorCode.PROTOCOL_ERROR);
      return;
    }
    if (ended) stream.remoteEnded = true;
    stream.listener?.onHeaders?.(list.fields, ended);
  }
}
