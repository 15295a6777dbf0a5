// The frames that a session sends beside DATA, into its outbox.

import { EMPTY_TABLE } from './header-encoder.ts';
import { Outbox } from './outbox.ts';
import { Flag, FrameType, MOST_FRAME_BYTES, type ErrorCode } from './protocol.ts';
import { settingsBytes } from './settings.ts';

const NOTHING = Buffer.alloc(0);
const MOST_DEBUG_BYTES = 256;

export class FrameWriter {
  readonly outbox = new Outbox();
  /** Called when there is something to send. */
  onOutput: () => void = () => undefined;
  #emptyTableDue = true;

  settings(entries: readonly (readonly [setting: number, value: number])[]): void {
    this.#write(FrameType.SETTINGS, 0, 0, settingsBytes(entries));
  }

  acknowledgeSettings(): void {
    this.#write(FrameType.SETTINGS, Flag.ACK, 0, NOTHING);
  }

  ping(payload: Buffer, flags = 0): void {
    this.#write(FrameType.PING, flags, 0, payload);
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

  reset(streamId: number, code: ErrorCode): void {
    this.#writeNumber(FrameType.RST_STREAM, streamId, code);
  }

  /** Stream 0: the connection's window. */
  windowUpdate(streamId: number, bytes: number): void {
    this.#writeNumber(FrameType.WINDOW_UPDATE, streamId, bytes);
  }

  goAway(lastStreamId: number, code: ErrorCode, message: string): void {
    const text = Buffer.from(message, 'utf8').subarray(0, MOST_DEBUG_BYTES);
    const payload = Buffer.alloc(8 + text.length);
    payload.writeUInt32BE(lastStreamId, 0);
    payload.writeUInt32BE(code, 4);
    text.copy(payload, 8);
    this.#write(FrameType.GOAWAY, 0, 0, payload);
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
}
