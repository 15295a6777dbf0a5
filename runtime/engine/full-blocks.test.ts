import { describe, expect, it } from 'vitest';

import { picture, promptOf, submission } from '../../test/support/submissions.ts';
import { BlockManager } from './block-manager.ts';
import type { Submission } from './engine.ts';
import { hashFullBlocks } from './full-blocks.ts';
import { Sequence } from './sequence.ts';

/** The hashes of the blocks of 4 tokens after computing in chunks that end at `stops`. */
function hashesOf(parts: Partial<Omit<Submission, 'sampling'>>, stops = [11]): (string | undefined)[] {
  const blocks = new BlockManager(8, 4);
  const sequence = new Sequence(submission(1, { tokenIds: promptOf(11), ...parts }), 0, 0n, 0);
  blocks.grow(sequence.blockTable, sequence.numTokens);
  for (const stop of stops) {
    const from = Math.floor(sequence.numComputed / 4);
    sequence.numComputed = stop;
    hashFullBlocks(blocks, sequence, from);
  }
  return sequence.blockTable.map((block) => blocks.hashOf(block));
}

describe('hashFullBlocks', () => {
  it('hashes full blocks only, the same in any chunks', () => {
    const [first, second, third] = hashesOf({});
    expect(third).toBeUndefined();
    expect(first).not.toBe(second);
    expect(hashesOf({}, [3, 4, 6, 8, 9, 11])).toEqual([first, second, undefined]);
  });

  it('tells blocks apart by what came before them, by pictures and by salt', () => {
    const [first, second] = hashesOf({});
    const changedStart = hashesOf({ tokenIds: Uint32Array.from(promptOf(11)).fill(12, 0, 1) });
    expect(changedStart[1]).not.toBe(second);
    const withPicture = hashesOf({ images: [picture('cat', 5, 3)] });
    expect(withPicture[0]).toBe(first);
    expect(withPicture[1]).not.toBe(second);
    expect(hashesOf({ images: [picture('dog', 5, 3)] })[1]).not.toBe(withPicture[1]);
    expect(hashesOf({ cacheSalt: 'tenant' })[0]).not.toBe(first);
  });
});
