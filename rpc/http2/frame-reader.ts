// Cuts what a connection receives into frames. A frame that lies whole in a chunk is left where it is; of one that does not, the part that
// came is kept: at most one frame, and none is longer than 16 KiB.

import {
  ErrorCode,
  FRAME_HEADER_BYTES,
  MOST_FRAME_BYTES,
  PREFACE,
  ProtocolError,
  FrameType,
} from './protocol.ts';

/** Takes a frame; its payload is `bytes` from `start` to `end`, and only until this returns. */
export type TakeFrame = (
  type: number,
  flags: number,
  streamId: number,
  bytes: Buffer,
  start: number,
  end: number,
) => void;

export class FrameReader {
  readonly #take: TakeFrame;
  #prefaceLeft: number;
  #first = true;
  /** The beginning of a frame whose end has not come; made when the first is needed. */
  #kept: Buffer | undefined;
  #keptBytes = 0;

  /** `preface`: the peer is a client. */
  constructor(preface: boolean, take: TakeFrame) {
    this.#prefaceLeft = preface ? PREFACE.length : 0;
    this.#take = take;
  }

  /** A client has sent its preface: it speaks HTTP/2. */
  get greeted(): boolean {
    return this.#prefaceLeft === 0;
  }

  /** Throws ProtocolError, and what `take` throws. */
  push(chunk: Buffer): void {
    let at = this.#prefaceLeft > 0 ? this.#skipPreface(chunk) : 0;
    if (this.#keptBytes > 0) at = this.#complete(chunk, at);
    while (chunk.length - at >= FRAME_HEADER_BYTES) {
      const end = at + this.#frameBytes(chunk, at);
      if (end > chunk.length) break;
      this.#give(chunk, at, end);
      at = end;
    }
    if (at < chunk.length) this.#keep(chunk, at, chunk.length);
  }

  #skipPreface(chunk: Buffer): number {
    const from = PREFACE.length - this.#prefaceLeft;
    const count = Math.min(chunk.length, this.#prefaceLeft);
    if (PREFACE.compare(chunk, 0, count, from, from + count) !== 0)
      throw new ProtocolError(
        ErrorCode.PROTOCOL_ERROR,
        'the connection does not begin with the preface of HTTP/2',
      );
    this.#prefaceLeft -= count;
    return count;
  }

  /** Goes on with the kept frame; returns how far it read. */
  #complete(chunk: Buffer, from: number): number {
    const kept = this.#kept!;
    let at = from;
    const fill = (target: number): boolean => {
      const count = Math.min(target - this.#keptBytes, chunk.length - at);
      chunk.copy(kept, this.#keptBytes, at, at + count);
      this.#keptBytes += count;
      at += count;
      return this.#keptBytes === target;
    };
    if (this.#keptBytes < FRAME_HEADER_BYTES && !fill(FRAME_HEADER_BYTES)) return at;
    const bytes = this.#frameBytes(kept, 0);
    if (!fill(bytes)) return at;
    this.#keptBytes = 0;
    this.#give(kept, 0, bytes);
    return at;
  }

  #keep(chunk: Buffer, from: number, to: number): void {
    this.#kept ??= Buffer.allocUnsafeSlow(FRAME_HEADER_BYTES + MOST_FRAME_BYTES);
    this.#keptBytes = chunk.copy(this.#kept, 0, from, to);
  }

  /** Header and payload of the frame whose header lies at `at`. */
  #frameBytes(bytes: Buffer, at: number): number {
    const payload = (bytes[at]! << 16) | (bytes[at + 1]! << 8) | bytes[at + 2]!;
    if (payload > MOST_FRAME_BYTES)
      throw new ProtocolError(
        ErrorCode.FRAME_SIZE_ERROR,
        `a frame of ${payload} bytes; at most ${MOST_FRAME_BYTES} are taken`,
      );
    return FRAME_HEADER_BYTES + payload;
  }

  #give(bytes: Buffer, at: number, end: number): void {
    const type = bytes[at + 3]!;
    if (this.#first && type !== FrameType.SETTINGS)
      throw new ProtocolError(ErrorCode.PROTOCOL_ERROR, `the first frame has type ${type}, not SETTINGS`);
    this.#first = false;
    const streamId = bytes.readUInt32BE(at + 5) & 0x7fff_ffff;
    this.#take(type, bytes[at + 4]!, streamId, bytes, at + FRAME_HEADER_BYTES, end);
  }
}
