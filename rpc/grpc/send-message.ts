// A message with its prefix: into the bytes that leave in this turn while the peer takes them, into the stream's queue otherwise.

import type { Http2Stream } from '../http2/stream.ts';
import type { MessageEncoder } from './method.ts';

const PREFIX_BYTES = 5;

/** Messages that are bytes already. */
export const BYTES: MessageEncoder<Buffer> = {
  byteLength: (bytes) => bytes.length,
  write: (bytes, target, at) => void bytes.copy(target, at),
};

/** False when it went into the queue; `length` is what the encoder says of the message. */
export function sendMessage<Message>(
  stream: Http2Stream,
  encoder: MessageEncoder<Message>,
  message: Message,
  length: number,
): boolean {
  const at = stream.reserve(PREFIX_BYTES + length);
  const bytes = at < 0 ? Buffer.allocUnsafe(PREFIX_BYTES + length) : stream.outbox.bytes;
  const start = at < 0 ? 0 : at;
  writePrefix(bytes, start, length);
  encoder.write(message, bytes, start + PREFIX_BYTES);
  if (at < 0) stream.queue(bytes);
  return at >= 0;
}

/** Sends a serialized message in two pieces through the queue; the second is not copied until it leaves. */
export function sendInPieces(stream: Http2Stream, head: Uint8Array, body: Uint8Array): void {
  const first = Buffer.allocUnsafe(PREFIX_BYTES + head.length);
  writePrefix(first, 0, head.length + body.length);
  first.set(head, PREFIX_BYTES);
  if (body.length === 0) stream.queue(first);
  else stream.queue(first, Buffer.from(body.buffer, body.byteOffset, body.length));
}

function writePrefix(bytes: Buffer, at: number, length: number): void {
  bytes[at] = 0; // not compressed
  bytes[at + 1] = length >>> 24;
  bytes[at + 2] = length >>> 16;
  bytes[at + 3] = length >>> 8;
  bytes[at + 4] = length;
}
