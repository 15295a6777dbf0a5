// Header blocks out of HEADERS and the CONTINUATIONs behind them. Whatever becomes of the stream, each block is decoded: the next ones refer to
// what it said.

import { unpadded } from './frame-checks.ts';
import { HeaderDecoder, type HeaderList } from './header-decoder.ts';
import { ErrorCode, Flag, FrameType, MOST_WINDOW_BYTES, ProtocolError } from './protocol.ts';

/** Of a block in its compressed form: bytes, and frames, since an empty one costs a little too. */
const MOST_BLOCK_BYTES = 64 * 1024;
const MOST_BLOCK_FRAMES = 64;

/** A block whose end has not come. */
interface OpenBlock {
  readonly streamId: number;
  readonly endStream: boolean;
  readonly parts: Buffer[];
  bytes: number;
}

export class HeaderBlocks {
  readonly #decoder: HeaderDecoder;
  readonly #take: (streamId: number, endStream: boolean, list: HeaderList) => void;
  #open: OpenBlock | undefined;

  constructor(
    maxHeaderListBytes: number,
    take: (streamId: number, endStream: boolean, list: HeaderList) => void,
  ) {
    this.#decoder = new HeaderDecoder(maxHeaderListBytes);
    this.#take = take;
  }

  /** Throws ProtocolError where the frame may not come now: nothing may come between those of a block. */
  expect(type: number, streamId: number): void {
    if (
      this.#open === undefined
        ? type === FrameType.CONTINUATION
        : type !== FrameType.CONTINUATION || streamId !== this.#open.streamId
    )
      throw new ProtocolError(
        ErrorCode.PROTOCOL_ERROR,
        this.#open === undefined
          ? 'CONTINUATION of no header'
          : `a frame of type ${type} between those of a header`,
      );
  }

  /** Throws ProtocolError. */
  begin(flags: number, streamId: number, bytes: Buffer, start: number, end: number): void {
    if (streamId % 2 === 0)
      throw new ProtocolError(ErrorCode.PROTOCOL_ERROR, `HEADERS on stream ${streamId}`);
    let [from, to] = unpadded(flags, bytes, start, end);
    if ((flags & Flag.PRIORITY) !== 0) {
      if (to - from < 5) throw new ProtocolError(ErrorCode.FRAME_SIZE_ERROR, 'HEADERS without its priority');
      if ((bytes.readUInt32BE(from) & MOST_WINDOW_BYTES) === streamId)
        throw new ProtocolError(ErrorCode.PROTOCOL_ERROR, `stream ${streamId} depends on itself`);
      from += 5;
    }
    const endStream = (flags & Flag.END_STREAM) !== 0;
    if ((flags & Flag.END_HEADERS) !== 0) {
      this.#take(streamId, endStream, this.#decoder.decode(bytes, from, to));
      return;
    }
    this.#open = { streamId, endStream, parts: [], bytes: 0 };
    this.continue(0, bytes, from, to);
  }

  /** Throws ProtocolError. */
  continue(flags: number, bytes: Buffer, start: number, end: number): void {
    const block = this.#open!;
    block.bytes += end - start;
    if (block.bytes > MOST_BLOCK_BYTES || block.parts.length >= MOST_BLOCK_FRAMES)
      throw new ProtocolError(
        ErrorCode.ENHANCE_YOUR_CALM,
        `a header block of more than ${MOST_BLOCK_BYTES} bytes or ${MOST_BLOCK_FRAMES} frames`,
      );
    block.parts.push(Buffer.from(bytes.subarray(start, end)));
    if ((flags & Flag.END_HEADERS) === 0) return;
    this.#open = undefined;
    const whole = Buffer.concat(block.parts);
    this.#take(block.streamId, block.endStream, this.#decoder.decode(whole, 0, whole.length));
  }
}
