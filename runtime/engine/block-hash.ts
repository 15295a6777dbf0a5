// The content hash of a full KV block. Keys and values depend on every token before them, so each hash continues the hash of the block before:
// equal hashes mean equal content from the start of the sequence, which is what a prefix cache looks up.

import { hash } from 'node:crypto';

/** A picture that has rows in the block. */
export interface BlockImage {
  readonly hash: string;
  /** Row of the picture that the block's token 0 would be; negative when the picture starts inside the block. */
  readonly row: number;
}

/** Hex hash that the first block of a sequence continues: sequences of different salts share nothing. */
export function rootHash(cacheSalt: string): string {
  return hash('sha256', `salt\0${cacheSalt}`);
}

/** Hex hash of a full block. `parent`: hash of the block before, or rootHash; tokens: its blockSize token ids; images: those with rows in it, in order. */
export function blockHash(parent: string, tokens: Int32Array, images: readonly BlockImage[]): string {
  // Parent and tokens have a fixed length and come first, so that no two contents are the same bytes.
  const pictures = images.map((image) => `\0${image.hash}@${String(image.row)}`).join('');
  const bytes = Buffer.allocUnsafe(parent.length + tokens.byteLength + Buffer.byteLength(pictures));
  bytes.write(parent, 'latin1');
  bytes.set(new Uint8Array(tokens.buffer, tokens.byteOffset, tokens.byteLength), parent.length);
  bytes.write(pictures, parent.length + tokens.byteLength);
  return hash('sha256', bytes);
}
