// The events of an answer as bytes. A delta goes out for each token of each stream, so it is written in one piece where it leaves from;
// everything else is left to the generated code.

import { GenerateEvent, type Delta } from '../gen/proto/internvl/v1/inference.ts';
import type { MessageEncoder } from '../rpc/grpc/method.ts';

// Field number and wire type of GenerateEvent.delta, Delta.text and Delta.token_ids.
const DELTA = (2 << 3) | 2;
const TEXT = (1 << 3) | 2;
const TOKEN_IDS = (2 << 3) | 2;
/** Shorter texts are written here character by character: less than a call into native code takes. */
const SHORT_TEXT = 32;

/** A delta without log-probabilities, or any event as bytes. */
export type EncodedEvent = Delta | Buffer;

export function encodeEvent(event: NonNullable<GenerateEvent['event']>): Buffer {
  return Buffer.from(GenerateEvent.encode({ event }).finish());
}

/** What `eventEncoder` writes a delta from. */
export function encodedDelta(delta: Delta): EncodedEvent {
  return delta.logprobs.length === 0 ? delta : encodeEvent({ $case: 'delta', value: delta });
}

/** Puts `next` behind `last`, which nobody else holds; false where one of them is bytes. */
export function mergeDeltas(last: EncodedEvent, next: EncodedEvent): boolean {
  if (Buffer.isBuffer(last) || Buffer.isBuffer(next)) return false;
  last.text += next.text;
  for (const id of next.tokenIds) last.tokenIds.push(id);
  return true;
}

/** Writes the same bytes as `encodeEvent` gives. */
export const eventEncoder: MessageEncoder<EncodedEvent> = {
  byteLength(event) {
    if (Buffer.isBuffer(event)) return event.length;
    const length = deltaLength(event);
    return 1 + varintLength(length) + length;
  },
  write(event, bytes, start) {
    if (Buffer.isBuffer(event)) {
      event.copy(bytes, start);
      return;
    }
    const { text, tokenIds } = event;
    let at = writeHeader(bytes, start, DELTA, deltaLength(event));
    if (text !== '') {
      at = writeHeader(bytes, at, TEXT, textLength(text));
      at = writeText(bytes, at, text);
    }
    if (tokenIds.length > 0) {
      at = writeHeader(bytes, at, TOKEN_IDS, idsLength(tokenIds));
      for (const id of tokenIds) at = writeVarint(bytes, at, id);
    }
  },
};

function deltaLength({ text, tokenIds }: Delta): number {
  return fieldLength(textLength(text)) + fieldLength(idsLength(tokenIds));
}

function idsLength(tokenIds: readonly number[]): number {
  let length = 0;
  for (const id of tokenIds) length += varintLength(id);
  return length;
}

function textLength(text: string): number {
  return isShortAscii(text) ? text.length : Buffer.byteLength(text);
}

function writeText(bytes: Buffer, at: number, text: string): number {
  if (!isShortAscii(text)) return at + bytes.write(text, at);
  for (let index = 0; index < text.length; index++) bytes[at + index] = text.charCodeAt(index);
  return at + text.length;
}

function isShortAscii(text: string): boolean {
  if (text.length > SHORT_TEXT) return false;
  for (let index = 0; index < text.length; index++) if (text.charCodeAt(index) > 0x7f) return false;
  return true;
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
