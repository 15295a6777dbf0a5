// Frames of HTTP/2 as a client writes them, and those that a server wrote taken apart.

import { FrameType, Flag, PREFACE } from '../../rpc/http2/protocol.ts';
import { encodeHeaders } from '../../rpc/http2/header-encoder.ts';

export interface Frame {
  readonly type: number;
  readonly flags: number;
  readonly streamId: number;
  readonly payload: Buffer;
}

export function frame(type: number, flags: number, streamId: number, payload: Buffer | string = ''): Buffer {
  const body = Buffer.from(payload as string, 'latin1');
  const head = Buffer.alloc(9);
  head.writeUIntBE(body.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(streamId, 5);
  return Buffer.concat([head, body]);
}

export const settings = (...entries: readonly (readonly [number, number])[]): Buffer => {
  const payload = Buffer.alloc(entries.length * 6);
  entries.forEach(([id, value], index) => {
    payload.writeUInt16BE(id, index * 6);
    payload.writeUInt32BE(value, index * 6 + 2);
  });
  return frame(FrameType.SETTINGS, 0, 0, payload);
};

export const number = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value >>> 0);
  return bytes;
};

export const REQUEST: readonly string[] = Object.entries({
  ':method': 'POST',
  ':scheme': 'http',
  ':path': '/test.Echo/Call',
  ':authority': 'test',
  te: 'trailers',
  'content-type': 'application/grpc',
}).flat();

export const headers = (
  streamId: number,
  fields: readonly string[] = REQUEST,
  flags: number = Flag.END_HEADERS,
): Buffer => frame(FrameType.HEADERS, flags, streamId, encodeHeaders(fields));

export const data = (streamId: number, payload: Buffer | string, flags = 0): Buffer =>
  frame(FrameType.DATA, flags, streamId, payload);

/** A gRPC message with its prefix. */
export const message = (bytes: Buffer | string, flag = 0): Buffer => {
  const body = Buffer.from(bytes as string, 'latin1');
  const prefix = Buffer.alloc(5);
  prefix[0] = flag;
  prefix.writeUInt32BE(body.length, 1);
  return Buffer.concat([prefix, body]);
};

export const GREETING = Buffer.concat([PREFACE, settings()]);

/** Whole frames; throws where the bytes end in mid-frame. */
export function framesIn(bytes: Buffer): Frame[] {
  const frames: Frame[] = [];
  for (let at = 0; at < bytes.length;) {
    const end = at + 9 + bytes.readUIntBE(at, 3);
    if (end > bytes.length) throw new Error('the bytes end in mid-frame');
    frames.push({
      type: bytes[at + 3]!,
      flags: bytes[at + 4]!,
      streamId: bytes.readUInt32BE(at + 5),
      payload: bytes.subarray(at + 9, end),
    });
    at = end;
  }
  return frames;
}
