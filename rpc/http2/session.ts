// One end of an HTTP/2 connection, without its socket: takes the bytes that come in, and puts those that go out into `outbox`. What header
// blocks mean, and who opens streams, differs between server and client.

import { Allowance } from './allowance.ts';
import { onConnection, sized, unpadded } from './frame-checks.ts';
import { FrameReader } from './frame-reader.ts';
import { FrameWriter } from './frame-writer.ts';
import { HeaderBlocks } from './header-blocks.ts';
import type { HeaderList } from './header-decoder.ts';
import type { Outbox } from './outbox.ts';
import {
  DEFAULT_WINDOW_BYTES,
  ErrorCode,
  Flag,
  FrameType,
  MOST_WINDOW_BYTES,
  ProtocolError,
  Setting,
} from './protocol.ts';
import { Sending } from './sending.ts';
import { readSettings } from './settings.ts';
import { Http2Stream, type StreamHost } from './stream.ts';

export interface SessionOptions {
  /** Streams that the peer may have open at once. */
  readonly maxConcurrentStreams: number;
  /** What the headers of one request or answer may take. */
  readonly maxHeaderListBytes: number;
  /** What a peer may send on a stream, and on all of a connection, ahead of its consumption. */
  readonly streamWindowBytes: number;
  readonly connectionWindowBytes: number;
  /** In milliseconds. */
  readonly now: () => number;
}

/** Requests that a peer may take back or spoil in a second, beside as many at once as may be open. */
const SPOILED_PER_SECOND = 500;
/** Streams that were reset here of which a peer may not know yet. */
const MOST_RESET_REMEMBERED = 256;

export abstract class Session implements StreamHost {
  readonly outbox: Outbox;
  readonly sending: Sending;
  protected readonly options: SessionOptions;
  protected readonly streams = new Map<number, Http2Stream>();
  protected readonly resetHere = new Set<number>();
  protected lastStreamId = 0;
  protected readonly writer = new FrameWriter();
  readonly #reader: FrameReader;
  readonly #blocks: HeaderBlocks;
  readonly #spoiled: Allowance;
  #initialSendWindow = DEFAULT_WINDOW_BYTES;
  #receiveWindow: number;
  #consumed = 0;
  #ending = false;

  /** `preface`: the peer is a client. */
  constructor(options: SessionOptions, preface: boolean) {
    this.options = options;
    this.outbox = this.writer.outbox;
    this.sending = new Sending(this.outbox);
    this.#reader = new FrameReader(preface, (type, flags, streamId, bytes, start, end) =>
      this.#frame(type, flags, streamId, bytes, start, end),
    );
    this.#blocks = new HeaderBlocks(options.maxHeaderListBytes, (streamId, endStream, list) =>
      this.headerList(streamId, endStream, list),
    );
    this.#spoiled = new Allowance(options.maxConcurrentStreams, SPOILED_PER_SECOND, options.now);
    this.#receiveWindow = options.connectionWindowBytes;
  }

  /** The first frames. */
  protected greet(settings: readonly (readonly [setting: number, value: number])[]): void {
    const { streamWindowBytes, connectionWindowBytes, maxHeaderListBytes } = this.options;
    const all = [
      ...settings,
      [Setting.INITIAL_WINDOW_SIZE, streamWindowBytes],
      [Setting.MAX_HEADER_LIST_SIZE, maxHeaderListBytes],
    ] as const;
    this.writer.settings(all);
    this.writer.windowUpdate(0, connectionWindowBytes - DEFAULT_WINDOW_BYTES);
  }

  /** Called when there is something in the outbox, or it is over: see `ending`. */
  set onOutput(listener: () => void) {
    this.writer.onOutput = listener;
  }

  /** Nothing more will be received: the connection is to be closed once the outbox is sent. */
  get ending(): boolean {
    return this.#ending;
  }

  get greeted(): boolean {
    return this.#reader.greeted;
  }

  receive(chunk: Buffer): void {
    if (this.#ending) return;
    try {
      this.#reader.push(chunk);
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      this.#fail(error);
    }
  }

  /** Whether the socket takes more. While it does not, DATA waits in its streams. */
  setBlocked(blocked: boolean): void {
    this.sending.setBlocked(blocked);
  }

  ping(payload: Buffer): void {
    this.writer.ping(payload);
  }

  /** Ends now. */
  close(code: ErrorCode, message: string): void {
    if (this.#ending) return;
    this.writer.goAway(this.lastServedId, code, message);
    this.#ending = true;
    this.lost();
    this.writer.onOutput();
  }

  /** The last stream that the peer opened and that was served. */
  protected get lastServedId(): number {
    return this.lastStreamId;
  }

  /** The connection is gone. */
  lost(): void {
    this.#ending = true;
    for (const stream of Array.from(this.streams.values())) stream.gone();
  }

  // --- what streams need

  sent(): void {
    this.writer.onOutput();
  }

  headers(streamId: number, block: Buffer, endStream: boolean): void {
    this.writer.headers(streamId, block, endStream);
  }

  windowUpdate(streamId: number, bytes: number): void {
    this.writer.windowUpdate(streamId, bytes);
  }

  resetStream(streamId: number, code: ErrorCode): void {
    this.writer.reset(streamId, code);
    this.resetHere.add(streamId);
    if (this.resetHere.size > MOST_RESET_REMEMBERED)
      this.resetHere.delete(this.resetHere.values().next().value!);
  }

  credit(bytes: number): void {
    this.#consumed += bytes;
    if (this.#consumed < this.options.connectionWindowBytes / 2) return;
    this.writer.windowUpdate(0, this.#consumed);
    this.#receiveWindow += this.#consumed;
    this.#consumed = 0;
  }

  forget(stream: Http2Stream): void {
    this.sending.forget(stream);
    this.streams.delete(stream.id);
    if (this.ending) this.writer.onOutput();
  }

  // --- frames that come in

  #frame(type: number, flags: number, streamId: number, bytes: Buffer, start: number, end: number): void {
    if (this.#ending) return;
    this.#blocks.expect(type, streamId);
    switch (type) {
      case FrameType.DATA:
        this.#data(flags, streamId, bytes, start, end);
        break;
      case FrameType.HEADERS:
        this.#blocks.begin(flags, streamId, bytes, start, end);
        break;
      case FrameType.CONTINUATION:
        this.#blocks.continue(flags, bytes, start, end);
        break;
      case FrameType.PRIORITY:
        this.#priority(streamId, bytes, start, end);
        break;
      case FrameType.RST_STREAM:
        sized('RST_STREAM', end - start, 4);
        this.#notIdle(streamId, 'RST_STREAM');
        this.#resetByPeer(this.streams.get(streamId), bytes.readUInt32BE(start) as ErrorCode);
        break;
      case FrameType.SETTINGS:
        this.#settings(flags, streamId, bytes, start, end);
        break;
      case FrameType.PING:
        sized('PING', end - start, 8);
        onConnection('PING', streamId);
        if ((flags & Flag.ACK) === 0) this.writer.ping(bytes.subarray(start, end), Flag.ACK);
        else this.pinged(bytes.subarray(start, end));
        break;
      case FrameType.GOAWAY:
        onConnection('GOAWAY', streamId);
        if (end - start < 8) throw new ProtocolError(ErrorCode.FRAME_SIZE_ERROR, 'GOAWAY without its code');
        this.goingAway(bytes.readUInt32BE(start) & MOST_WINDOW_BYTES);
        break;
      case FrameType.WINDOW_UPDATE:
        sized('WINDOW_UPDATE', end - start, 4);
        this.#windowUpdate(streamId, bytes.readUInt32BE(start) & MOST_WINDOW_BYTES);
        break;
      case FrameType.PUSH_PROMISE:
        throw new ProtocolError(ErrorCode.PROTOCOL_ERROR, 'PUSH_PROMISE, which nobody asked for');
      default: // of an extension: ignored
    }
  }

  #data(flags: number, streamId: number, bytes: Buffer, start: number, end: number): void {
    this.#notIdle(streamId, 'DATA');
    const length = end - start;
    this.#receiveWindow -= length;
    if (this.#receiveWindow < 0)
      throw new ProtocolError(ErrorCode.FLOW_CONTROL_ERROR, 'more DATA than the connection has room for');
    const [from, to] = unpadded(flags, bytes, start, end);
    const stream = this.streams.get(streamId);
    if (stream === undefined || stream.remoteEnded) {
      this.credit(length);
      if (stream === undefined && this.resetHere.has(streamId)) return; // it was on its way
      this.spoilStream(streamId, ErrorCode.STREAM_CLOSED);
      return;
    }
    stream.receiveWindow -= length;
    stream.received += to - from;
    const ended = (flags & Flag.END_STREAM) !== 0;
    const tooMuch = stream.contentLength !== undefined && stream.received > stream.contentLength;
    const tooLittle = ended && stream.contentLength !== undefined && stream.received < stream.contentLength;
    if (stream.receiveWindow < 0 || tooMuch || tooLittle) {
      this.credit(length);
      const window = stream.receiveWindow < 0;
      this.spoilStream(streamId, window ? ErrorCode.FLOW_CONTROL_ERROR : ErrorCode.PROTOCOL_ERROR);
      return;
    }
    if (ended) stream.remoteEnded = true;
    if (length > to - from) stream.consumed(length - (to - from));
    if (to > from) stream.listener?.onData(bytes, from, to);
    if (ended && !stream.over) stream.listener?.onEnd();
  }

  /** The peer has answered a ping. */
  protected pinged(_payload: Buffer): void {}

  /** The peer will not serve streams above this one. */
  protected goingAway(_lastStreamId: number): void {}

  protected openStream(streamId: number): Http2Stream {
    const stream = new Http2Stream(streamId, this, this.#initialSendWindow, this.options.streamWindowBytes);
    this.lastStreamId = streamId;
    this.streams.set(streamId, stream);
    return stream;
  }

  /** A whole header block came. */
  protected abstract headerList(streamId: number, endStream: boolean, list: HeaderList): void;

  #resetByPeer(stream: Http2Stream | undefined, code: ErrorCode): void {
    if (stream === undefined) return;
    this.spoil();
    stream.gone(code);
  }

  #priority(streamId: number, bytes: Buffer, start: number, end: number): void {
    if (streamId === 0) throw new ProtocolError(ErrorCode.PROTOCOL_ERROR, 'PRIORITY of no stream');
    // Priorities themselves are ignored.
    if (end - start !== 5) this.spoilStream(streamId, ErrorCode.FRAME_SIZE_ERROR);
    else if ((bytes.readUInt32BE(start) & MOST_WINDOW_BYTES) === streamId)
      this.spoilStream(streamId, ErrorCode.PROTOCOL_ERROR);
  }

  #settings(flags: number, streamId: number, bytes: Buffer, start: number, end: number): void {
    onConnection('SETTINGS', streamId);
    if ((flags & Flag.ACK) !== 0) {
      sized('acknowledged SETTINGS', end - start, 0);
      return;
    }
    const initialWindow = readSettings(bytes, start, end);
    this.writer.acknowledgeSettings();
    if (initialWindow === undefined) return;
    const change = initialWindow - this.#initialSendWindow;
    this.#initialSendWindow = initialWindow;
    for (const stream of this.streams.values()) {
      stream.sendWindow += change;
      if (stream.sendWindow > MOST_WINDOW_BYTES)
        throw new ProtocolError(ErrorCode.FLOW_CONTROL_ERROR, `the window of stream ${stream.id} overflows`);
    }
    for (const stream of this.streams.values()) if (stream.hasQueue) this.sending.wait(stream);
  }

  #windowUpdate(streamId: number, bytes: number): void {
    if (streamId === 0) {
      if (bytes === 0) throw new ProtocolError(ErrorCode.PROTOCOL_ERROR, 'WINDOW_UPDATE by nothing');
      if (!this.sending.widen(bytes))
        throw new ProtocolError(ErrorCode.FLOW_CONTROL_ERROR, 'the window of the connection overflows');
      return;
    }
    this.#notIdle(streamId, 'WINDOW_UPDATE');
    const stream = this.streams.get(streamId);
    if (stream === undefined) return;
    stream.sendWindow += bytes;
    if (bytes === 0) this.spoilStream(streamId, ErrorCode.PROTOCOL_ERROR);
    else if (stream.sendWindow > MOST_WINDOW_BYTES) this.spoilStream(streamId, ErrorCode.FLOW_CONTROL_ERROR);
    else if (stream.hasQueue) this.sending.wait(stream);
  }

  #fail(error: ProtocolError): void {
    this.close(error.code, error.message);
  }

  /** The peer broke a stream, which ends it; one that keeps doing so is told to stop. */
  protected spoilStream(streamId: number, code: ErrorCode): void {
    this.spoil();
    this.resetStream(streamId, code);
    this.streams.get(streamId)?.gone(code);
  }

  protected spoil(): void {
    if (!this.#spoiled.take())
      throw new ProtocolError(
        ErrorCode.ENHANCE_YOUR_CALM,
        'too many requests that were taken back or broken',
      );
  }

  #notIdle(streamId: number, type: string): void {
    if (streamId === 0 || streamId > this.lastStreamId || streamId % 2 === 0)
      throw new ProtocolError(ErrorCode.PROTOCOL_ERROR, `${type} on stream ${streamId}, which is idle`);
  }
}
