// The events of an answer as bytes. A delta goes out for each token of each stream, so it is written here in one piece; everything else
// is left to the generated code.

import { GenerateEvent, type Delta } from '../gen/proto/internvl/v1/inference.ts';

// Field number and wire type of GenerateEvent.delta, Delta.text and Delta.token_ids.
const DELTA = (2 << 3) | 2;
const TEXT = (1 << 3) | 2;
const TOKEN_IDS = (2 << 3) | 2;

export function encodeEvent(event: NonNullable<GenerateEvent['event']>): Buffer {
  return Buffer.from(GenerateEvent.encode({ event }).finish());
}

/** The same bytes as `encodeEvent` gives for a delta. */
export function encodeDelta(delta: Delta): Buffer {
  const { text, tokenIds, logprobs } = delta;
  if (logprobs.length > 0) return encodeEvent({ $case: 'delta', value: delta });
  const textBytes = Buffer.byteLength(text);
  let idBytes = 0;
  for (const id of tokenIds) idBytes += varintLength(id);
  const length = fieldLength(textBytes) + fieldLength(idBytes);
  const bytes = Buffer.allocUnsafe(1 + varintLength(length) + length);
  let at = writeHeader(bytes, 0, DELTA, length);
  if (textBytes > 0) {
    at = writeHeader(bytes, at, TEXT, textBytes);
    at += bytes.write(text, at);
  }
  if (idBytes > 0) {
    at = writeHeader(bytes, at, TOKEN_IDS, idBytes);
    for (const id of tokenIds) at = writeVarint(bytes, at, id);
  }
  return bytes;
}

/** Bytes of a length-delimited field; an empty one is left out. */
function fieldLength(bytes: number): number {
  return bytes === 0 ? 0 : 1 + varintLength(bytes) + bytes;
}

function writeHeader(bytes: Buffer, at: number, tag: number, length: number): number {
  bytes[at] = tag;
  return writeVarint(bytes, at + 1, length);
}

function varintLength(value: number): number {
  let length = 1;
  for (let rest = value >>> 7; rest > 0; rest >>>= 7) length++;
  return length;
}

function writeVarint(bytes: Buffer, at: number, value: number): number {
  let rest = value;
  while (rest > 0x7f) {
    bytes[at++] = (rest & 0x7f) | 0x80;
    rest >>>= 7;
  }
  bytes[at] = rest;
  return at + 1;
}
