// The server's end: requests come in on streams that the client opens.

import type { HeaderList } from './header-decoder.ts';
import { ErrorCode, MOST_WINDOW_BYTES, ProtocolError, Setting } from './protocol.ts';
import { requestHead, trailersFault, type RequestHead } from './request-head.ts';
import { Session, type SessionOptions } from './session.ts';
import type { Http2Stream } from './stream.ts';

/** A request began, whose stream wants a listener or an end. With `tooLarge` its headers are only the first of those that came. */
export type OnRequest = (stream: Http2Stream, head: RequestHead, tooLarge: boolean) => void;

const DRAIN_PING = Buffer.from('draining', 'latin1');
const NO_HEAD: RequestHead = { method: '', path: '', authority: '', fields: [], contentLength: undefined };

export class ServerSession extends Session {
  readonly #onRequest: OnRequest;
  #draining: 'no' | 'announced' | 'refusing' = 'no';

  constructor(options: SessionOptions, onRequest: OnRequest) {
    super(options, true);
    this.#onRequest = onRequest;
    this.greet([[Setting.MAX_CONCURRENT_STREAMS, options.maxConcurrentStreams]]);
  }

  override get ending(): boolean {
    return super.ending || (this.#draining === 'refusing' && this.streams.size === 0);
  }

  /** Takes no new requests, once the peer has learned that, and ends after those under way. */
  drain(): void {
    if (this.#draining !== 'no' || this.ending) return;
    if (!this.greeted) {
      this.close(ErrorCode.NO_ERROR, '');
      return;
    }
    this.#draining = 'announced';
    this.writer.goAway(MOST_WINDOW_BYTES, ErrorCode.NO_ERROR, '');
    // Its answer comes behind the requests that were on their way.
    this.ping(DRAIN_PING);
  }

  protected override pinged(payload: Buffer): void {
    if (this.#draining !== 'announced' || !DRAIN_PING.equals(payload)) return;
    this.#draining = 'refusing';
    this.writer.goAway(this.lastStreamId, ErrorCode.NO_ERROR, '');
  }

  protected headerList(streamId: number, ended: boolean, list: HeaderList): void {
    const stream = this.streams.get(streamId);
    if (stream !== undefined) {
      this.#trailers(stream, ended, list);
      return;
    }
    if (streamId <= this.lastStreamId) {
      if (this.resetHere.has(streamId)) return; // it was on its way
      throw new ProtocolError(ErrorCode.STREAM_CLOSED, `HEADERS on stream ${streamId}, which is closed`);
    }
    this.lastStreamId = streamId;
    if (this.#draining === 'refusing' || this.streams.size >= this.options.maxConcurrentStreams) {
      this.spoilStream(streamId, ErrorCode.REFUSED_STREAM);
      return;
    }
    const head = list.tooLarge ? NO_HEAD : requestHead(list.fields);
    if (list.malformed || typeof head === 'string' || (ended && (head.contentLength ?? 0) > 0)) {
      this.spoilStream(streamId, ErrorCode.PROTOCOL_ERROR);
      return;
    }
    const opened = this.openStream(streamId);
    opened.contentLength = head.contentLength;
    opened.remoteEnded = ended;
    this.#onRequest(opened, head, list.tooLarge);
    if (ended && !opened.over) opened.listener?.onEnd();
  }

  #trailers(stream: Http2Stream, ended: boolean, list: HeaderList): void {
    if (stream.remoteEnded) {
      this.spoilStream(stream.id, ErrorCode.STREAM_CLOSED);
      return;
    }
    const short = stream.contentLength !== undefined && stream.received < stream.contentLength;
    if (!ended || list.malformed || short || trailersFault(list.fields) !== undefined) {
      this.spoilStream(stream.id, ErrorCode.PROTOCOL_ERROR);
      return;
    }
    stream.remoteEnded = true;
    stream.listener?.onEnd();
  }
}
