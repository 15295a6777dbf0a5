// HPACK, the receiving half (RFC 7541): header blocks into names and values. One decoder a connection, and every block has to pass through it,
// also those of streams that are refused: each may change the table that the next ones refer to.

import { decodeHuffman } from './huffman.ts';
import { ErrorCode, ProtocolError } from './protocol.ts';
import { STATIC_TABLE, type TableEntry } from './static-table.ts';

/** What an entry of the table or of a list of headers counts beside its characters. */
const ENTRY_OVERHEAD = 32;
export const TABLE_BYTES = 4_096;

export interface HeaderList {
  /** Name, value, name, value … */
  readonly fields: readonly string[];
  /** The list was larger than allowed; `fields` holds its beginning. */
  readonly tooLarge: boolean;
  /** A name or a value has characters that it may not have. */
  readonly malformed: boolean;
}

const NAME = /^:?[!#$%&'*+\-.^_`|~0-9a-z]+$/;
// eslint-disable-next-line no-control-regex
const NOT_IN_VALUE = /[\0-\x08\x0a-\x1f\x7f]|^[ \t]|[ \t]$/;

export class HeaderDecoder {
  readonly #mostListBytes: number;
  /** The newest is last. At most 4096 / 32 entries. */
  readonly #table: TableEntry[] = [];
  #tableBytes = 0;
  #mostTableBytes = TABLE_BYTES;
  #block: Buffer = Buffer.alloc(0);
  #at = 0;
  #end = 0;

  constructor(mostListBytes: number) {
    this.#mostListBytes = mostListBytes;
  }

  /** Throws ProtocolError, after which the connection cannot go on. */
  decode(block: Buffer, from: number, to: number): HeaderList {
    this.#block = block;
    this.#at = from;
    this.#end = to;
    const fields: string[] = [];
    let bytes = 0;
    let malformed = false;
    let mayResize = true;
    while (this.#at < to) {
      const first = block[this.#at]!;
      if ((first & 0xe0) === 0x20) {
        if (!mayResize) throw broken('a change of the table size behind a header');
        this.#resize(this.#integer(5));
        continue;
      }
      mayResize = false;
      const entry = (first & 0x80) !== 0 ? this.#entry(this.#integer(7)) : this.#literal(first);
      bytes += entry.bytes;
      if (!entry.valid) malformed = true;
      if (bytes <= this.#mostListBytes) fields.push(entry.name, entry.value);
    }
    this.#block = block.subarray(0, 0);
    return { fields, tooLarge: bytes > this.#mostListBytes, malformed };
  }

  #literal(first: number): TableEntry {
    const indexed = (first & 0x40) !== 0;
    const index = this.#integer(indexed ? 6 : 4);
    const known = index === 0 ? undefined : this.#entry(index);
    const name = known?.name ?? this.#string();
    const value = this.#string();
    const entry = {
      name,
      value,
      bytes: name.length + value.length + ENTRY_OVERHEAD,
      valid: (known?.validName ?? NAME.test(name)) && !NOT_IN_VALUE.test(value),
      validName: known?.validName ?? NAME.test(name),
    };
    if (indexed) {
      this.#tableBytes += entry.bytes;
      this.#table.push(entry);
      this.#evict();
    }
    return entry;
  }

  #entry(index: number): TableEntry {
    const entry = STATIC_TABLE[index] ?? this.#table[this.#table.length + STATIC_TABLE.length - 1 - index];
    if (index === 0 || entry === undefined) throw broken(`entry ${index} of a table that has no such`);
    return entry;
  }

  #resize(bytes: number): void {
    if (bytes > TABLE_BYTES) throw broken(`a table of ${bytes} bytes, more than ${TABLE_BYTES}`);
    this.#mostTableBytes = bytes;
    this.#evict();
  }

  #evict(): void {
    let gone = 0;
    while (this.#tableBytes > this.#mostTableBytes) this.#tableBytes -= this.#table[gone++]!.bytes;
    if (gone > 0) this.#table.splice(0, gone);
  }

  #integer(prefixBits: number): number {
    const most = (1 << prefixBits) - 1;
    let value = this.#byte() & most;
    if (value < most) return value;
    for (let shift = 0; shift <= 21; shift += 7) {
      const byte = this.#byte();
      value += (byte & 0x7f) << shift;
      if ((byte & 0x80) === 0) return value;
    }
    throw broken('an integer of too many bytes');
  }

  #string(): string {
    const huffman = (this.#block[this.#at]! & 0x80) !== 0;
    const length = this.#integer(7);
    const start = this.#at;
    const end = start + length;
    if (end > this.#end) throw broken('a string that goes past the end');
    this.#at = end;
    if (huffman) {
      const text = decodeHuffman(this.#block, start, end);
      if (text === undefined) throw broken('a string that is not Huffman-coded');
      return text;
    }
    return this.#block.toString('latin1', start, end);
  }

  #byte(): number {
    if (this.#at >= this.#end) throw broken('a block that ends in mid-header');
    return this.#block[this.#at++]!;
  }
}

function broken(what: string): ProtocolError {
  return new ProtocolError(ErrorCode.COMPRESSION_ERROR, `the header block has ${what}`);
}
