// The content hash of a full KV block. Keys and values depend on every token before them, so each hash continues the hash of the block before:
// equal hashes mean equal content from the start of the sequence, which is what a prefix cache looks up.

import { createHash } from 'node:crypto';

/** A picture that has rows in the block. */
export interface BlockImage {
  readonly hash: string;
  /** Row of the picture that the block's token 0 would be; negative when the picture starts inside the block. */
  readonly row: number;
}

/** Hex hash that the first block of a sequence continues: sequences of different salts share nothing. */
export function rootHash(cacheSalt: string): string {
  return createHash('sha256').update('salt\0').update(cacheSalt).digest('hex');
}

/** Hex hash of a full block. `parent`: hash of the block before, or rootHash; tokens: its blockSize token ids; images: those with rows in it, in order. */
export function blockHash(parent: string, tokens: Int32Array, images: readonly BlockImage[]): string {
  const hash = createHash('sha256').update(parent);
  hash.update(new Uint8Array(tokens.buffer, tokens.byteOffset, tokens.byteLength));
  for (const image of images) hash.update(`\0${image.hash}@${String(image.row)}`);
  return hash.digest('hex');
}
