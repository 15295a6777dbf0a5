// A PutImageRequest whose chunk is where its message lies: the generated decoder copies it, and these are most of the bytes that a router sees.

import { BinaryReader } from '@bufbuild/protobuf/wire';
import type { PutImageRequest } from '../gen/proto/internvl/v1/inference.ts';

const SIZE_BYTES = 1 << 3;
const CHUNK = (2 << 3) | 2;

/** Throws Error when the bytes are no protobuf. */
export function decodeUploadMessage(bytes: Buffer): PutImageRequest {
  const reader = new BinaryReader(bytes);
  const message: PutImageRequest = { sizeBytes: 0, chunk: Buffer.alloc(0) };
  while (reader.pos < reader.len) {
    const tag = reader.uint32();
    if (tag === SIZE_BYTES) message.sizeBytes = reader.uint32();
    else if (tag === CHUNK) {
      const { buffer, byteOffset, byteLength } = reader.bytes();
      message.chunk = Buffer.from(buffer, byteOffset, byteLength);
    } else reader.skip(tag & 7, tag >>> 3);
  }
  return message;
}
