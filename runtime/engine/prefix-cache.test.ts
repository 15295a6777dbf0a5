import { describe, expect, it } from 'vitest';

import { picture, promptOf, submission } from '../../test/support/submissions.ts';
import { BlockManager } from './block-manager.ts';
import type { Submission } from './engine.ts';
import { PrefixCache } from './prefix-cache.ts';
import { Sequence } from './sequence.ts';

type Parts = Partial<Omit<Submission, 'sampling'>>;

/** A cache of 16 blocks of 4 tokens. */
class Bench {
  readonly blocks = new BlockManager(16, 4);
  readonly cache: PrefixCache;

  constructor(enabled = true) {
    this.cache = new PrefixCache(this.blocks, enabled);
  }

  sequence(parts: Parts = {}): Sequence {
    return new Sequence(submission(1, { tokenIds: promptOf(11), ...parts }), 0, 0n, 0);
  }

  /** Starts a sequence and computes all its tokens in chunks that end at `stops`. */
  computed(parts: Parts = {}, stops = [11]): Sequence {
    const sequence = this.sequence(parts);
    this.cache.adopt(sequence, this.cache.find(sequence));
    this.blocks.grow(sequence.blockTable, sequence.numTokens);
    for (const stop of stops) {
      sequence.numComputed = Math.max(stop, sequence.numComputed);
      this.cache.publish(sequence);
    }
    return sequence;
  }

  /** Tokens that a sequence would find. */
  found(parts: Parts = {}): number {
    return this.cache.find(this.sequence(parts)).tokens;
  }
}

describe('PrefixCache', () => {
  it('finds the full blocks of a sequence that runs or has ended, in whatever chunks it was computed', () => {
    const bench = new Bench();
    expect(bench.found()).toBe(0);
    const first = bench.computed({}, [3, 4, 6, 8, 9, 11]);
    expect(bench.cache.find(bench.sequence())).toEqual({ blocks: [0, 1], tokens: 8, numIdle: 0 });
    bench.blocks.release(first.blockTable);
    expect(bench.cache.find(bench.sequence())).toEqual({ blocks: [0, 1], tokens: 8, numIdle: 2 });
    const second = bench.computed();
    expect(second.blockTable).toEqual([0, 1, 2]);
    expect([second.cachedTokens, bench.cache.hitTokens, bench.cache.promptTokens]).toEqual([8, 8, 22]);
    bench.blocks.checkInvariants([second.blockTable]);
  });

  it('leaves the last token to compute, also when its block is there', () => {
    const bench = new Bench();
    bench.computed({ tokenIds: promptOf(12) }, [12]);
    expect(bench.found({ tokenIds: promptOf(12) })).toBe(8);
    expect(bench.found({ tokenIds: promptOf(13) })).toBe(12);
    expect(bench.found({ tokenIds: promptOf(4) })).toBe(0);
  });

  it('finds nothing of a block that is still being filled', () => {
    const bench = new Bench();
    bench.computed({}, [7]);
    expect(bench.found()).toBe(4);
  });

  it('finds what was generated, for the next turn', () => {
    const bench = new Bench();
    const sequence = bench.computed();
    for (const token of [5, 6, 7]) sequence.append(token);
    sequence.numComputed = 13;
    bench.cache.publish(sequence);
    const next = Uint32Array.from([...promptOf(11), 5, 6, 7, 8]);
    expect(bench.found({ tokenIds: next })).toBe(12);
    expect(bench.found({ tokenIds: next.fill(9, 11, 12) })).toBe(8);
  });

  const cat = [picture('cat', 5, 3)];
  it.each<[string, Parts, Parts, number]>([
    ['another first token', {}, { tokenIds: promptOf(11).fill(12, 0, 1) }, 0],
    ['another token later', {}, { tokenIds: promptOf(11).fill(12, 6, 7) }, 4],
    ['a picture instead of text', {}, { images: cat }, 4],
    ['the same picture', { images: cat }, { images: cat }, 8],
    ['another picture', { images: cat }, { images: [picture('dog', 5, 3)] }, 4],
    ['the same picture elsewhere', { images: cat }, { images: [picture('cat', 4, 3)] }, 4],
    ['another salt', {}, { cacheSalt: 'tenant' }, 0],
    ['the same salt', { cacheSalt: 'tenant' }, { cacheSalt: 'tenant' }, 8],
  ])('tells %s apart', (_, earlier, later, tokens) => {
    const bench = new Bench();
    bench.computed(earlier);
    expect(bench.found(later)).toBe(tokens);
  });

  it('publishes a block once the token under way in it is known', () => {
    const bench = new Bench();
    const sequence = bench.computed();
    sequence.numPending = 1;
    sequence.numComputed = 12; // with a token that nobody knows yet
    bench.cache.publish(sequence);
    const next = Uint32Array.from([...promptOf(11), 5, 6]);
    expect(bench.found({ tokenIds: next })).toBe(8);
    sequence.numPending = 0;
    sequence.append(5);
    bench.cache.publish(sequence);
    expect(bench.found({ tokenIds: next })).toBe(12);
  });

  it('keeps one of two blocks with the same content', () => {
    const bench = new Bench();
    const [a, b] = [bench.sequence(), bench.sequence()];
    for (const sequence of [a, b]) {
      bench.blocks.grow(sequence.blockTable, 11);
      sequence.numComputed = 11;
      bench.cache.publish(sequence);
    }
    bench.blocks.release(b.blockTable);
    bench.blocks.checkInvariants([a.blockTable]);
    expect(bench.blocks.numIdle).toBe(0);
    bench.blocks.release(a.blockTable);
    bench.blocks.checkInvariants([]);
    expect(bench.blocks.numIdle).toBe(2);
  });

  it('says what a waiting sequence would have to compute, as blocks come and go', () => {
    const bench = new Bench();
    const waiting = bench.sequence();
    expect(bench.cache.uncachedTokens(waiting)).toBe(11);
    const first = bench.computed();
    expect(bench.cache.uncachedTokens(waiting)).toBe(3);
    bench.blocks.release(first.blockTable);
    const other: number[] = [];
    bench.blocks.grow(other, 15 * 4); // evicts one of two
    expect(bench.cache.uncachedTokens(waiting)).toBe(7);
    bench.blocks.grow(other, 16 * 4);
    expect(bench.cache.uncachedTokens(waiting)).toBe(11);
  });

  it('hashes no more between two steps than takes a few milliseconds, and counts the others whole', () => {
    const bench = new Bench();
    bench.computed({ tokenIds: promptOf(8) }, [8]);
    const waiting = Array.from({ length: 5 }, () => bench.sequence({ tokenIds: promptOf(6000) }));
    const look = (): number[] => waiting.map((sequence) => bench.cache.uncachedTokens(sequence));
    expect(look()).toEqual([5992, 5992, 5992, 6000, 6000]);
    bench.cache.beginStep();
    expect(look()).toEqual([5992, 5992, 5992, 5992, 5992]);
  });

  it('finds nothing when it is off', () => {
    const bench = new Bench(false);
    const sequence = bench.computed();
    expect(bench.found()).toBe(0);
    expect(bench.cache.uncachedTokens(bench.sequence())).toBe(11);
    bench.blocks.release(sequence.blockTable);
    expect(bench.blocks.numIdle).toBe(0);
    expect(sequence.blockHashes).toEqual([]);
  });
});
