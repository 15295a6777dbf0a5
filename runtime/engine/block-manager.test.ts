import { describe, expect, it } from 'vitest';

import { BlockAccountingError, BlockManager } from './block-manager.ts';

describe('BlockManager', () => {
  it('allocates on demand, low blocks first, and says how many tokens there is room for', () => {
    const blocks = new BlockManager(4, 16);
    const table: number[] = [];
    expect(blocks.grow(table, 1)).toBe(16);
    expect(blocks.grow(table, 16)).toBe(16);
    expect(blocks.grow(table, 17)).toBe(32);
    expect(table).toEqual([0, 1]);
    expect([blocks.numFree, blocks.numUsed]).toEqual([2, 2]);
  });

  it('gives what is left when that is too little', () => {
    const blocks = new BlockManager(3, 4);
    const [a, b]: [number[], number[]] = [[], []];
    expect(blocks.grow(a, 8)).toBe(8);
    expect(blocks.grow(b, 100)).toBe(4);
    expect(blocks.grow(b, 100)).toBe(4);
    blocks.checkInvariants([a, b]);
    blocks.release(a);
    expect(a).toEqual([]);
    expect(blocks.grow(b, 100)).toBe(12);
    blocks.checkInvariants([a, b]);
  });

  it('keeps the content of a freed block until its memory is needed, the least recently used going first', () => {
    const blocks = new BlockManager(3, 4);
    const [a, b]: [number[], number[]] = [[], []];
    blocks.grow(a, 8);
    for (const [index, block] of a.entries()) blocks.setHash(block, `a${String(index)}`);
    blocks.release(a);
    expect([blocks.numFree, blocks.numUsed, blocks.numIdle]).toEqual([3, 0, 2]);
    blocks.checkInvariants([]);
    expect(blocks.grow(b, 8)).toBe(8); // the empty one, then the end of the chain
    expect([blocks.blockOf('a0'), blocks.blockOf('a1')]).toEqual([0, undefined]);
    expect(blocks.hashOf(1)).toBeUndefined();
    blocks.checkInvariants([b]);
    blocks.share(a, 0);
    expect(blocks.grow(b, 12)).toBe(8); // block 0 is in use again
    blocks.checkInvariants([a, b]);
    blocks.release(a);
    expect(blocks.grow(b, 12)).toBe(12);
    expect(blocks.blockOf('a0')).toBeUndefined();
    blocks.checkInvariants([b]);
  });

  it('frees a shared block with its last reference', () => {
    const blocks = new BlockManager(2, 4);
    const [a, b]: [number[], number[]] = [[], []];
    blocks.grow(a, 5);
    expect(() => {
      blocks.share(b, 0);
    }).toThrow(/block 0 cannot be shared/);
    blocks.setHash(0, 'h');
    blocks.share(b, 0);
    blocks.checkInvariants([a, b]);
    blocks.release(a);
    blocks.checkInvariants([b]);
    expect([blocks.numFree, blocks.isIdle(0)]).toEqual([1, false]);
    blocks.release(b);
    blocks.checkInvariants([]);
    expect([blocks.numFree, blocks.isIdle(0)]).toEqual([2, true]);
  });

  it('refuses to free a block twice', () => {
    const blocks = new BlockManager(2, 4);
    const table: number[] = [];
    blocks.grow(table, 4);
    const copy = [...table];
    blocks.release(table);
    expect(() => {
      blocks.release(copy);
    }).toThrow(BlockAccountingError);
  });

  it.each<[string, (tables: number[][]) => number[][], RegExp]>([
    [
      'a block in two tables',
      ([a = [], b = []]) => [a, b, [...a]],
      /block 0 is in 2 tables with 1 references/,
    ],
    ['a lost block', ([, b = []]) => [b], /block 0 is in 0 tables with 1 references/],
    [
      'a free block in a table',
      ([a = [], b = []]) => [a, [...b, 3]],
      /block 3 is in 1 tables with 0 references/,
    ],
  ])('finds %s', (_, wrong, message) => {
    const blocks = new BlockManager(4, 4);
    const tables: number[][] = [[], []];
    for (const table of tables) blocks.grow(table, 4);
    blocks.checkInvariants(tables);
    expect(() => {
      blocks.checkInvariants(wrong(tables));
    }).toThrow(message);
  });
});
