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
  bytes[start] = 0;
  bytes[start + 1] = length >>> 24;
  bytes[start + 2] = length >>> 16;
  bytes[start + 3] = length >>> 8;
  bytes[start + 4] = length;
  encoder.write(message, bytes, start + PREFIX_BYTES);
  if (at < 0) stream.queue(bytes);
  return at >= 0;
}
