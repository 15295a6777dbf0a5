// What a connection is about to send: frames one behind the other in one buffer, which goes to the socket whole, once a turn of the event
// loop. Once it is written it is used again, so that a token costs no memory.

import { FRAME_HEADER_BYTES } from './protocol.ts';

const LEAST_BYTES = 4_096;
/** A buffer that had to grow further is not kept. */
const MOST_KEPT_BYTES = 256 * 1024;

export class Outbox {
  /** Valid until the next frame is begun. */
  bytes: Buffer = Buffer.allocUnsafeSlow(LEAST_BYTES);
  #length = 0;

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

  /** All there is to send. The bytes stay as they are until `reuse`, or for good where that is not called. */
  take(): Buffer {
    const taken = this.bytes.subarray(0, this.#length);
    this.#length = 0;
    return taken;
  }

  /** The socket has written what was taken. */
  reuse(): void {
    if (this.bytes.length > MOST_KEPT_BYTES) this.replace();
  }

  /** The socket still holds what was taken: goes on with another buffer. */
  replace(): void {
    this.bytes = Buffer.allocUnsafeSlow(LEAST_BYTES);
  }

  #grow(least: number): void {
    const grown = Buffer.allocUnsafeSlow(Math.max(least, this.bytes.length * 2));
    this.bytes.copy(grown, 0, 0, this.#length);
    this.bytes = grown;
  }
}
