// What a connection is about to send: frames one behind the other in one buffer, which goes to the socket whole, once a turn of the event
// loop. Once it is written it is used again, so that neither a token nor a file costs memory.

import { FRAME_HEADER_BYTES } from './protocol.ts';

const LEAST_BYTES = 4_096;
/** As much DATA as goes out in a turn, its last frame's header, and other frames beside it. A buffer that had to grow further is not kept. */
const MOST_KEPT_BYTES = (256 + 16) * 1024;

export class Outbox {
  /** Valid until the next frame is begun. */
  bytes: Buffer = Buffer.allocUnsafeSlow(LEAST_BYTES);
  #length = 0;
  /** The largest of those that the socket still has to write. */
  #lent: Buffer | undefined;

  get length(): number {
    return this.#length;
  }

  /** Writes a frame's header and makes room for its payload; returns where in `bytes` that begins. */
  frame(type: number, flags: number, streamId: number, length: number): number {
    const at = this.#length;
    const end = at + FRAME_HEADER_BYTES + length;
    if (end > this.bytes.length) this.#grow(end);
    const bytes = this.bytes;
    bytes[at] = length >>> 16;
    bytes[at + 1] = length >>> 8;
    bytes[at + 2] = length;
    bytes[at + 3] = type;
    bytes[at + 4] = flags;
    bytes[at + 5] = streamId >>> 24;
    bytes[at + 6] = streamId >>> 16;
    bytes[at + 7] = streamId >>> 8;
    bytes[at + 8] = streamId;
    this.#length = end;
    return at + FRAME_HEADER_BYTES;
  }

  /** Bytes that are no frame. */
  raw(bytes: Buffer): void {
    const end = this.#length + bytes.length;
    if (end > this.bytes.length) this.#grow(end);
    bytes.copy(this.bytes, this.#length);
    this.#length = end;
  }

  /** All there is to send. The bytes stay as they are until `reuse` or, where `replace` is called first, until the `reuse` after it. */
  take(): Buffer {
    const taken = this.bytes.subarray(0, this.#length);
    this.#length = 0;
    return taken;
  }

  /** The socket still holds what was taken: goes on with another buffer. */
  replace(): void {
    if (this.bytes.length > (this.#lent?.length ?? 0)) this.#lent = this.bytes;
    this.bytes = Buffer.allocUnsafeSlow(LEAST_BYTES);
  }

  /** The socket has written everything that was taken. */
  reuse(): void {
    const lent = this.#lent;
    this.#lent = undefined;
    if (lent !== undefined && lent.length <= MOST_KEPT_BYTES && lent.length > this.bytes.length) {
      this.bytes.copy(lent, 0, 0, this.#length);
      this.bytes = lent;
    } else if (this.bytes.length > MOST_KEPT_BYTES && this.#length === 0) {
      this.bytes = Buffer.allocUnsafeSlow(LEAST_BYTES);
    }
  }

  #grow(least: number): void {
    const doubled = this.bytes.length * 2;
    const bytes = least <= MOST_KEPT_BYTES ? Math.min(doubled, MOST_KEPT_BYTES) : doubled;
    const grown = Buffer.allocUnsafeSlow(Math.max(least, bytes));
    this.bytes.copy(grown, 0, 0, this.#length);
    this.bytes = grown;
  }
}
