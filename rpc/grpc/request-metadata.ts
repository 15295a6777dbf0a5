// What of a request's headers is gRPC's own, and what is the caller's.

import { Metadata } from '@grpc/grpc-js';
import { parseTimeout } from './timeout.ts';

export interface CallHead {
  readonly contentType: string;
  /** In milliseconds; undefined without a deadline. */
  readonly timeoutMs: number | undefined;
  /** What its compressed messages are compressed with. */
  readonly encoding: string;
}

export function callHead(fields: readonly string[]): CallHead {
  let contentType = '';
  let timeoutMs: number | undefined;
  let encoding = 'identity';
  for (let index = 0; index < fields.length; index += 2) {
    const name = fields[index];
    if (name === 'content-type') contentType = fields[index + 1]!;
    else if (name === 'grpc-timeout') timeoutMs = parseTimeout(fields[index + 1]!);
    else if (name === 'grpc-encoding') encoding = fields[index + 1]!;
  }
  return { contentType, timeoutMs, encoding };
}

/** The metadata of a request: its headers but those of HTTP/2 and gRPC. */
export function requestMetadata(fields: readonly string[]): Metadata {
  const metadata = new Metadata();
  for (let index = 0; index < fields.length; index += 2) {
    const name = fields[index]!;
    const value = fields[index + 1]!;
    if (name.startsWith(':') || name.startsWith('grpc-') || name === 'te' || name === 'content-type')
      continue;
    addMetadata(metadata, name, value);
  }
  return metadata;
}

/** Adds a header as gRPC understands it. */
export function addMetadata(metadata: Metadata, name: string, value: string): void {
  try {
    if (!name.endsWith('-bin')) metadata.add(name, value);
    else for (const part of value.split(',')) metadata.add(name, Buffer.from(part.trim(), 'base64'));
  } catch {
    // A header that HTTP/2 allows and gRPC does not: nobody asks for it.
  }
}
