// Whether a scheduler's sequences, blocks and pictures add up; for tests.

import type { BlockManager } from './block-manager.ts';
import type { EncodedImages } from './encoded-images.ts';
import type { Sequence } from './sequence.ts';

/** Throws when blocks, references or images are not accounted for by the sequences that have not ended. */
export function checkAccounts(live: readonly Sequence[], blocks: BlockManager, images: EncodedImages): void {
  blocks.checkInvariants(live.map((sequence) => sequence.blockTable));
  for (const { handle, blockTable, numComputed } of live) {
    // What follows the computed tokens is still to be written; full blocks are those that others may read.
    const unwritten = blockTable.slice(Math.floor(numComputed / blocks.blockSize));
    const full = unwritten.find((block) => blocks.hashOf(block) !== undefined);
    if (full !== undefined) {
      throw new Error(`sequence ${String(handle)} would write full block ${String(full)}`);
    }
  }
  const held = new Set(live.flatMap((sequence) => sequence.images.map((image) => image.encoded)));
  held.delete(undefined);
  if (held.size !== images.numHeld) {
    throw new Error(`${String(images.numHeld)} images are held, sequences hold ${String(held.size)}`);
  }
}
