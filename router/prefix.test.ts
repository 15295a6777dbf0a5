import { describe, expect, it } from 'vitest';
import { HeldPrefixes, PREFIX_BLOCK, prefixBlocks } from './prefix.ts';
import type { Work } from './request.ts';

const prompt = (tokens: readonly number[], change: Partial<Work> = {}): Work => ({
  tokenIds: tokens,
  pictures: [],
  sampling: { stop: [], stopTokenIds: [], ignoreEos: false },
  logprobs: undefined,
  priorityClass: 1,
  deadlineAt: undefined,
  cacheSalt: '',
  ...change,
});
const run = (count: number, from = 0): number[] => Array.from({ length: count }, (_, index) => from + index);
const picture = (hash: string, offset: number) => ({ hash: hash.repeat(64), offset, length: 16 });

describe('prefixBlocks', () => {
  it('has one hash for each full block', () => {
    expect(prefixBlocks(prompt(run(PREFIX_BLOCK - 1)))).toEqual([]);
    expect(prefixBlocks(prompt(run(3 * PREFIX_BLOCK + 5)))).toHaveLength(3);
  });

  const base = prefixBlocks(prompt(run(3 * PREFIX_BLOCK)));
  it.each<[string, Work, number]>([
    ['the same beginning', prompt([...run(2 * PREFIX_BLOCK), ...run(200, 7000)]), 2],
    ['another token in the middle block', prompt(run(3 * PREFIX_BLOCK).with(PREFIX_BLOCK + 3, 9)), 1],
    ['another first token', prompt(run(3 * PREFIX_BLOCK).with(0, 9)), 0],
    ['another salt', prompt(run(3 * PREFIX_BLOCK), { cacheSalt: 'b' }), 0],
    [
      'a picture in the second block',
      prompt(run(3 * PREFIX_BLOCK), { pictures: [picture('a', PREFIX_BLOCK)] }),
      1,
    ],
  ])('agrees for as long as the prompts do: %s', (_, work, agreeing) => {
    const blocks = prefixBlocks(work);
    expect(blocks.slice(0, 3).map((block, index) => block === base[index])).toEqual(
      [0, 1, 2].map((index) => index < agreeing),
    );
  });

  it('tells pictures apart, whose tokens are the same', () => {
    const blocks = (hash: string) =>
      prefixBlocks(prompt(run(PREFIX_BLOCK), { pictures: [picture(hash, 2)] }));
    expect(blocks('a')).not.toEqual(blocks('b'));
    expect(blocks('a')).toEqual(blocks('a'));
  });
});

describe('HeldPrefixes', () => {
  const blocks = prefixBlocks(prompt(run(4 * PREFIX_BLOCK)));

  it('holds what was placed, from the start on without a gap', () => {
    const held = new HeldPrefixes(10_000);
    expect(held.hitTokens(blocks)).toBe(0);
    held.placed(blocks.slice(0, 2));
    held.placed(blocks.slice(3));
    expect(held.hitTokens(blocks)).toBe(2 * PREFIX_BLOCK);
    expect(held.hitTokens([])).toBe(0);
  });

  it('forgets what was used longest ago, a prompt from its end, when more comes than the replica has room for', () => {
    const held = new HeldPrefixes(6 * PREFIX_BLOCK);
    held.placed(blocks);
    held.placed([1, 2, 3]);
    expect(held.hitTokens(blocks)).toBe(3 * PREFIX_BLOCK);
    held.placed(blocks);
    held.placed([4, 5]);
    expect([held.hitTokens(blocks), held.hitTokens([1, 2, 3])]).toEqual([4 * PREFIX_BLOCK, 0]);
  });
});
