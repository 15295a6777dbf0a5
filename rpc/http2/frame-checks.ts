// What every frame of its type has to be, whichever stream it is of. All throw ProtocolError.

import { ErrorCode, Flag, ProtocolError } from './protocol.ts';

export function sized(type: string, bytes: number, expected: number): void {
  if (bytes !== expected) throw new ProtocolError(ErrorCode.FRAME_SIZE_ERROR, `${type} of ${bytes} bytes`);
}

export function onConnection(type: string, streamId: number): void {
  if (streamId !== 0) throw new ProtocolError(ErrorCode.PROTOCOL_ERROR, `${type} on stream ${streamId}`);
}

/** Where the payload lies without its padding. */
export function unpadded(
  flags: number,
  bytes: Buffer,
  start: number,
  end: number,
): [from: number, to: number] {
  if ((flags & Flag.PADDED) === 0) return [start, end];
  const padding = end > start ? bytes[start]! : 0;
  if (end - start < 1 + padding) throw new ProtocolError(ErrorCode.PROTOCOL_ERROR, 'more padding than frame');
  return [start + 1, end - padding];
}
