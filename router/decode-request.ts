// What the background thread makes of a large request: the message, its data: URLs decoded, and each picture in memory of its own, hashed.

import { createHash } from 'node:crypto';
import '../rpc/strict-text.ts';
import { CountTokensRequest, GenerateRequest, type Message } from '../gen/proto/internvl/v1/inference.ts';
import { pictureFromUrl } from './validate-picture.ts';

const TYPES = { GenerateRequest, CountTokensRequest };

/** The requests that have messages. */
export interface RequestTypes {
  readonly GenerateRequest: GenerateRequest;
  readonly CountTokensRequest: CountTokensRequest;
}

export interface DecodedRequest {
  readonly request: GenerateRequest | CountTokensRequest;
  /** SHA-256 of each picture in hex, in the order of `picturesIn`. */
  readonly hashes: readonly string[];
}

/** The bytes are no message of their type. */
export class MalformedRequest extends Error {
  override readonly name = 'MalformedRequest';
  readonly code = 'malformed_request';
}

/** Throws MalformedRequest, or RpcError naming the picture whose URL cannot be used. */
export function decodeRequest(type: keyof RequestTypes, bytes: Uint8Array): DecodedRequest {
  let request;
  try {
    request = TYPES[type].decode(bytes);
  } catch (error) {
    throw new MalformedRequest(error instanceof Error ? error.message : String(error), { cause: error });
  }
  decodeUrls(request.messages);
  const hashes: string[] = [];
  for (const picture of picturesIn(request.messages)) {
    // A small buffer may be a part of a shared one, which cannot move to another thread.
    if (picture.value.length !== picture.value.buffer.byteLength)
      picture.value = Buffer.from(Uint8Array.from(picture.value).buffer);
    hashes.push(createHash('sha256').update(picture.value).digest('hex'));
  }
  return { request, hashes };
}

/** Where the messages hold the files of pictures. */
export function* picturesIn(messages: readonly Message[]): Generator<{ value: Buffer }> {
  for (const { parts } of messages) {
    for (const { part } of parts) {
      if (part?.$case === 'image' && part.value.source?.$case === 'data') yield part.value.source;
    }
  }
}

function decodeUrls(messages: readonly Message[]): void {
  for (const [index, { parts }] of messages.entries()) {
    for (const [at, { part }] of parts.entries()) {
      if (part?.$case !== 'image' || part.value.source?.$case !== 'url') continue;
      const field = `messages[${index}].parts[${at}].image`;
      // How large it may be depends on the model, and is checked with everything else.
      const value = pictureFromUrl(part.value.source.value, field, Infinity);
      part.value.source = { $case: 'data', value };
    }
  }
}
