// The payload of SETTINGS frames.

import { ErrorCode, MOST_FRAME_BYTES, MOST_WINDOW_BYTES, ProtocolError, Setting } from './protocol.ts';

const ENTRY_BYTES = 6;

export function settingsBytes(entries: readonly (readonly [setting: number, value: number])[]): Buffer {
  const bytes = Buffer.alloc(entries.length * ENTRY_BYTES);
  entries.forEach(([setting, value], index) => {
    bytes.writeUInt16BE(setting, index * ENTRY_BYTES);
    bytes.writeUInt32BE(value, index * ENTRY_BYTES + 2);
  });
  return bytes;
}

/** The window that streams begin with, where the peer's settings say so: all that matters to a server that sends small frames and no table. Throws ProtocolError. */
export function readSettings(bytes: Buffer, start: number, end: number): number | undefined {
  if ((end - start) % ENTRY_BYTES !== 0)
    throw new ProtocolError(ErrorCode.FRAME_SIZE_ERROR, `SETTINGS of ${end - start} bytes`);
  let initialWindow: number | undefined;
  for (let at = start; at < end; at += ENTRY_BYTES) {
    const setting = bytes.readUInt16BE(at);
    const value = bytes.readUInt32BE(at + 2);
    if (setting === Setting.INITIAL_WINDOW_SIZE) {
      if (value > MOST_WINDOW_BYTES)
        throw new ProtocolError(ErrorCode.FLOW_CONTROL_ERROR, `an initial window of ${value} bytes`);
      initialWindow = value;
    } else if (setting === Setting.ENABLE_PUSH && value > 1) {
      throw new ProtocolError(ErrorCode.PROTOCOL_ERROR, `ENABLE_PUSH ${value}`);
    } else if (setting === Setting.MAX_FRAME_SIZE && (value < MOST_FRAME_BYTES || value > 0xff_ffff)) {
      throw new ProtocolError(ErrorCode.PROTOCOL_ERROR, `a largest frame of ${value} bytes`);
    }
  }
  return initialWindow;
}
