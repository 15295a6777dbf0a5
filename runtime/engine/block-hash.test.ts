import { describe, expect, it } from 'vitest';

import { blockHash, rootHash } from './block-hash.ts';

const TOKENS = Int32Array.of(1, 2, 3, 4);
const IMAGE = { hash: 'aa', row: 0 };

describe('blockHash', () => {
  const base = blockHash(rootHash(''), TOKENS, [IMAGE]);

  it('is a function of its input, not of the memory it lies in', () => {
    const inLarger = Int32Array.of(9, 1, 2, 3, 4).subarray(1);
    expect(blockHash(rootHash(''), inLarger, [{ ...IMAGE }])).toBe(base);
    expect(base).toMatch(/^[0-9a-f]{64}$/);
  });

  it.each([
    ['salt', blockHash(rootHash('tenant'), TOKENS, [IMAGE])],
    ['parent', blockHash(base, TOKENS, [IMAGE])],
    ['tokens', blockHash(rootHash(''), Int32Array.of(1, 2, 3, 5), [IMAGE])],
    ['picture', blockHash(rootHash(''), TOKENS, [{ hash: 'ab', row: 0 }])],
    ['row of the picture', blockHash(rootHash(''), TOKENS, [{ hash: 'aa', row: 4 }])],
    ['number of pictures', blockHash(rootHash(''), TOKENS, [])],
  ])('differs with another %s', (_, other) => {
    expect(other).not.toBe(base);
  });
});
