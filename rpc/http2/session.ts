// One end of an HTTP/2 connection, without its socket: takes the bytes that come in, and puts those that go out into `outbox`. What header
// blocks mean, and who opens streams, differs between server and client.

import { Allowance } from './allowance.ts';
import { FrameReader } from './frame-reader.ts';
import { HeaderDecoder, type HeaderList } from './header-decoder.ts';
import { EMPTY_TABLE } from './header-encoder.ts';
import { Outbox } from './outbox.ts';
import {
  DEFAULT_WINDOW_BYTES,
  ErrorCode,
  Flag,
  FrameType,
  MOST_FRAME_BYTES,
  MOST_WINDOW_BYTES,
  ProtocolError,
  Setting,
} from './protocol.ts';
import { readSettings, settingsBytes } from './settings.ts';
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

/** A header block of which more frames are due. */
interface HeaderBlock {
  readonly streamId: number;
  /** Of its first frame. */
  readonly flags: number;
  readonly parts: Buffer[];
  bytes: number;
}

/** What goes into the outbox in one turn; the rest follows when the socket has taken that. */
const MOST_OUTBOX_BYTES = 256 * 1024;
/** A header block in its compressed form, over all of its frames. */
const MOST_BLOCK_BYTES = 64 * 1024;
/** Requests that a peer may take back or spoil in a second, beside as many at once as may be open. */
const SPOILED_PER_SECOND = 500;
/** Streams that were reset here of which a peer may not know yet. */
const MOST_RESET_REMEMBERED = 256;

export abstract class Session implements StreamHost {
  readonly outbox = new Outbox();
  protected readonly options: SessionOptions;
  protected readonly streams = new Map<number, Http2Stream>();
  protected readonly resetHere = new Set<number>();
  protected lastStreamId = 0;
  /** Called when there is something in the outbox, or it is over: see `ending`. */
  onOutput: () => void = () => undefined;
  readonly #reader: FrameReader;
  readonly #decoder: HeaderDecoder;
  readonly #spoiled: Allowance;
  /** Those with something to send that only wait for the connection, who waits longest first. */
  readonly #waiting = new Set<Http2Stream>();
  #sendWindow = DEFAULT_WINDOW_BYTES;
  #initialSendWindow = DEFAULT_WINDOW_BYTES;
  #receiveWindow: number;
  #consumed = 0;
  #blocked = false;
  /** The header block whose CONTINUATION is due. */
  #block: HeaderBlock | undefined;
  #emptyTableDue = true;
  #ending = false;

  /** `preface`: the peer is a client. */
  constructor(options: SessionOptions, preface: boolean) {
    this.options = options;
    this.#reader = new FrameReader(preface, (type, flags, streamId, bytes, start, end) =>
      this.#frame(type, flags, streamId, bytes, start, end),
    );
    this.#decoder = new HeaderDecoder(options.maxHeaderListBytes);
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
    this.#write(FrameType.SETTINGS, 0, 0, settingsBytes(all));
    this.#writeNumber(FrameType.WINDOW_UPDATE, 0, connectionWindowBytes - DEFAULT_WINDOW_BYTES);
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
    this.#blocked = blocked;
    if (!blocked) this.#sendWaiting();
  }

  ping(payload: Buffer): void {
    this.#write(FrameType.PING, 0, 0, payload);
  }

  /** Ends now. */
  close(code: ErrorCode, message: string): void {
    if (this.#ending) return;
    this.goAway(this.lastStreamId, code, message);
    this.#ending = true;
    this.lost();
    this.onOutput();
  }

  /** The connection is gone. */
  lost(): void {
    this.#ending = true;
    for (const stream of Array.from(this.streams.values())) stream.gone();
  }

  // --- what streams need

  get crowded(): boolean {
    return this.#waiting.size > 0;
  }

  room(): number {
    return this.#blocked ? 0 : Math.min(this.#sendWindow, MOST_OUTBOX_BYTES - this.outbox.length);
  }

  sent(bytes: number): void {
    this.#sendWindow -= bytes;
    this.onOutput();
  }

  touched(): void {
    this.onOutput();
  }

  wait(stream: Http2Stream): void {
    this.#waiting.add(stream);
    this.#sendWaiting();
  }

  headers(streamId: number, block: Buffer, endStream: boolean): void {
    let bytes = block;
    if (this.#emptyTableDue) {
      this.#emptyTableDue = false;
      bytes = Buffer.concat([Buffer.from([EMPTY_TABLE]), block]);
    }
    let type: number = FrameType.HEADERS;
    let flags: number = endStream ? Flag.END_STREAM : 0;
    let at = 0;
    for (; bytes.length - at > MOST_FRAME_BYTES; at += MOST_FRAME_BYTES) {
      this.#write(type, flags, streamId, bytes.subarray(at, at + MOST_FRAME_BYTES));
      type = FrameType.CONTINUATION;
      flags = 0;
    }
    this.#write(type, flags | Flag.END_HEADERS, streamId, at === 0 ? bytes : bytes.subarray(at));
  }

  resetStream(streamId: number, code: ErrorCode): void {
    this.#writeNumber(FrameType.RST_STREAM, streamId, code);
    this.resetHere.add(streamId);
    if (this.resetHere.size > MOST_RESET_REMEMBERED)
      this.resetHere.delete(this.resetHere.values().next().value!);
  }

  credit(bytes: number): void {
    this.#consumed += bytes;
    if (this.#consumed < this.options.connectionWindowBytes / 2) return;
    this.#writeNumber(FrameType.WINDOW_UPDATE, 0, this.#consumed);
    this.#receiveWindow += this.#consumed;
    this.#consumed = 0;
  }

  forget(stream: Http2Stream): void {
    this.#waiting.delete(stream);
    this.streams.delete(stream.id);
    if (this.ending) this.onOutput();
  }

  // --- frames that come in

  #frame(type: number, flags: number, streamId: number, bytes: Buffer, start: number, end: number): void {
    if (this.#ending) return;
    const block = this.#block;
    if (block !== undefined && (type !== FrameType.CONTINUATION || streamId !== block.streamId))
      throw new ProtocolError(ErrorCode.PROTOCOL_ERROR, `a frame of type ${type} between those of a header`);
    switch (type) {
      case FrameType.DATA:
        this.#data(flags, streamId, bytes, start, end);
        break;
      case FrameType.HEADERS:
        this.#headers(flags, streamId, bytes, start, end);
        break;
      case FrameType.CONTINUATION:
        if (block === undefined)
          throw new ProtocolError(ErrorCode.PROTOCOL_ERROR, 'CONTINUATION of no header');
        this.#continue(block, flags, bytes, start, end);
        break;
      case FrameType.PRIORITY:
        this.#priority(streamId, bytes, start, end);
        break;
      case FrameType.RST_STREAM:
        sized('RST_STREAM', end - start, 4);
        this.#notIdle(streamId, 'RST_STREAM');
        this.#resetByPeer(this.streams.get(streamId));
        break;
      case FrameType.SETTINGS:
        this.#settings(flags, streamId, bytes, start, end);
        break;
      case FrameType.PING:
        sized('PING', end - start, 8);
        onConnection('PING', streamId);
        if ((flags & Flag.ACK) === 0) this.#write(FrameType.PING, Flag.ACK, 0, bytes.subarray(start, end));
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

  #headers(flags: number, streamId: number, bytes: Buffer, start: number, end: number): void {
    if (streamId % 2 === 0)
      throw new ProtocolError(ErrorCode.PROTOCOL_ERROR, `a request on stream ${streamId}`);
    let [from, to] = unpadded(flags, bytes, start, end);
    if ((flags & Flag.PRIORITY) !== 0) {
      if (to - from < 5) throw new ProtocolError(ErrorCode.FRAME_SIZE_ERROR, 'HEADERS without its priority');
      if ((bytes.readUInt32BE(from) & MOST_WINDOW_BYTES) === streamId)
        throw new ProtocolError(ErrorCode.PROTOCOL_ERROR, `stream ${streamId} depends on itself`);
      from += 5;
    }
    if ((flags & Flag.END_HEADERS) !== 0) {
      this.#block = undefined;
      this.headerList(streamId, (flags & Flag.END_STREAM) !== 0, this.#decoder.decode(bytes, from, to));
      return;
    }
    this.#block = { streamId, flags, parts: [], bytes: 0 };
    this.#continue(this.#block, 0, bytes, from, to);
  }

  #continue(block: HeaderBlock, flags: number, bytes: Buffer, start: number, end: number): void {
    block.bytes += end - start;
    // An empty frame costs a little too.
    if (block.bytes > MOST_BLOCK_BYTES || block.parts.length >= MOST_BLOCK_BYTES / 1024)
      throw new ProtocolError(
        ErrorCode.ENHANCE_YOUR_CALM,
        `a header block of more than ${MOST_BLOCK_BYTES} bytes or ${MOST_BLOCK_BYTES / 1024} frames`,
      );
    block.parts.push(Buffer.from(bytes.subarray(start, end)));
    if ((flags & Flag.END_HEADERS) === 0) return;
    this.#block = undefined;
    const whole = Buffer.concat(block.parts);
    const list = this.#decoder.decode(whole, 0, whole.length);
    this.headerList(block.streamId, (block.flags & Flag.END_STREAM) !== 0, list);
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

  #resetByPeer(stream: Http2Stream | undefined): void {
    if (stream === undefined) return;
    this.spoil();
    stream.gone();
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
    this.#write(FrameType.SETTINGS, Flag.ACK, 0, bytes.subarray(0, 0));
    if (initialWindow === undefined) return;
    const change = initialWindow - this.#initialSendWindow;
    this.#initialSendWindow = initialWindow;
    for (const stream of this.streams.values()) {
      stream.sendWindow += change;
      if (stream.sendWindow > MOST_WINDOW_BYTES)
        throw new ProtocolError(ErrorCode.FLOW_CONTROL_ERROR, `the window of stream ${stream.id} overflows`);
      if (stream.hasQueue) this.#waiting.add(stream);
    }
    this.#sendWaiting();
  }

  #windowUpdate(streamId: number, bytes: number): void {
    if (streamId === 0) {
      if (bytes === 0) throw new ProtocolError(ErrorCode.PROTOCOL_ERROR, 'WINDOW_UPDATE by nothing');
      this.#sendWindow += bytes;
      if (this.#sendWindow > MOST_WINDOW_BYTES)
        throw new ProtocolError(ErrorCode.FLOW_CONTROL_ERROR, 'the window of the connection overflows');
      this.#sendWaiting();
      return;
    }
    this.#notIdle(streamId, 'WINDOW_UPDATE');
    const stream = this.streams.get(streamId);
    if (stream === undefined) return;
    stream.sendWindow += bytes;
    if (bytes === 0) this.spoilStream(streamId, ErrorCode.PROTOCOL_ERROR);
    else if (stream.sendWindow > MOST_WINDOW_BYTES) this.spoilStream(streamId, ErrorCode.FLOW_CONTROL_ERROR);
    else if (stream.hasQueue) this.wait(stream);
  }

  // --- frames that go out

  #sendWaiting(): void {
    while (this.#waiting.size > 0 && this.room() > 0) {
      for (const stream of Array.from(this.#waiting)) {
        this.#waiting.delete(stream);
        // One frame, then the next in turn.
        if (stream.sendQueued()) this.#waiting.add(stream);
        else if (stream.hasQueue && stream.sendWindow > 0 && this.room() <= 0) this.#waiting.add(stream);
      }
    }
  }

  #write(type: number, flags: number, streamId: number, payload: Buffer): void {
    const at = this.outbox.frame(type, flags, streamId, payload.length);
    payload.copy(this.outbox.bytes, at);
    this.onOutput();
  }

  #writeNumber(type: number, streamId: number, value: number): void {
    const at = this.outbox.frame(type, 0, streamId, 4);
    this.outbox.bytes.writeUInt32BE(value, at);
    this.onOutput();
  }

  protected goAway(lastStreamId: number, code: ErrorCode, message: string): void {
    const text = Buffer.from(message, 'utf8').subarray(0, 256);
    const payload = Buffer.alloc(8 + text.length);
    payload.writeUInt32BE(lastStreamId, 0);
    payload.writeUInt32BE(code, 4);
    text.copy(payload, 8);
    this.#write(FrameType.GOAWAY, 0, 0, payload);
  }

  #fail(error: ProtocolError): void {
    this.close(error.code, error.message);
  }

  /** The peer broke a stream, which ends it; one that keeps doing so is told to stop. */
  protected spoilStream(streamId: number, code: ErrorCode): void {
    this.spoil();
    this.resetStream(streamId, code);
    this.streams.get(streamId)?.gone();
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

function sized(type: string, bytes: number, expected: number): void {
  if (bytes !== expected) throw new ProtocolError(ErrorCode.FRAME_SIZE_ERROR, `${type} of ${bytes} bytes`);
}

function onConnection(type: string, streamId: number): void {
  if (streamId !== 0) throw new ProtocolError(ErrorCode.PROTOCOL_ERROR, `${type} on stream ${streamId}`);
}

/** Where the payload lies without its padding. */
function unpadded(flags: number, bytes: Buffer, start: number, end: number): [from: number, to: number] {
  if ((flags & Flag.PADDED) === 0) return [start, end];
  const padding = end > start ? bytes[start]! : 0;
  if (end - start < 1 + padding) throw new ProtocolError(ErrorCode.PROTOCOL_ERROR, 'more padding than frame');
  return [start + 1, end - padding];
}
