// HPACK, the sending half: headers into blocks that refer to nothing but the static table, so that a block is the same bytes on every
// connection and can be made once. What an answer's headers would save by a table of their own is less than one token's frame.

import { STATIC_NAMES } from './static-table.ts';

/** Says that the table stays empty, whatever the peer would allow: due at the head of a connection's first block. */
export const EMPTY_TABLE = 0x20;

const STATUS_200 = 0x88;

/** Names in lower case and values in Latin-1, in turn. */
export function encodeHeaders(fields: readonly string[]): Buffer {
  const parts: Buffer[] = [];
  for (let index = 0; index < fields.length; index += 2) {
    const name = fields[index]!;
    const value = fields[index + 1]!;
    if (name === ':status' && value === '200') {
      parts.push(Buffer.from([STATUS_200]));
      continue;
    }
    const known = STATIC_NAMES.get(name);
    if (known === undefined) parts.push(Buffer.from([0]), string(name));
    else parts.push(integer(known, 4));
    parts.push(string(value));
  }
  return Buffer.concat(parts);
}

function string(text: string): Buffer {
  const bytes = Buffer.from(text, 'latin1');
  return Buffer.concat([integer(bytes.length, 7), bytes]);
}

function integer(value: number, prefixBits: number): Buffer {
  const most = (1 << prefixBits) - 1;
  if (value < most) return Buffer.from([value]);
  const bytes = [most];
  let rest = value - most;
  for (; rest > 0x7f; rest >>>= 7) bytes.push((rest & 0x7f) | 0x80);
  bytes.push(rest);
  return Buffer.from(bytes);
}
