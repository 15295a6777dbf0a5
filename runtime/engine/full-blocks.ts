// Gives the blocks that a sequence has filled the hash of their content.

import { blockHash, rootHash } from './block-hash.ts';
import type { BlockManager } from './block-manager.ts';
import type { Sequence } from './sequence.ts';

/** Hashes the full blocks of the sequence from its block `from` on; those before it have their hashes. */
export function hashFullBlocks(
  blocks: BlockManager,
  sequence: Pick<Sequence, 'blockTable' | 'cacheSalt' | 'images' | 'numComputed' | 'tokens'>,
  from: number,
): void {
  const { blockSize } = blocks;
  const full = sequence.blockTable.slice(0, Math.floor(sequence.numComputed / blockSize));
  let parent = parentHash(blocks, full[from - 1], sequence.cacheSalt);
  for (const [index, block] of full.entries()) {
    if (index < from) continue;
    const start = index * blockSize;
    const end = start + blockSize;
    const images = sequence.images
      .filter(({ offset, length }) => offset < end && offset + length > start)
      .map(({ hash, offset }) => ({ hash, row: start - offset }));
    parent = blockHash(parent, sequence.tokens.subarray(start, end), images);
    blocks.setHash(block, parent);
  }
}

function parentHash(blocks: BlockManager, previous: number | undefined, cacheSalt: string): string {
  if (previous === undefined) return rootHash(cacheSalt);
  const hash = blocks.hashOf(previous);
  if (hash === undefined) throw new Error(`KV block ${String(previous)} is full and has no hash`);
  return hash;
}
