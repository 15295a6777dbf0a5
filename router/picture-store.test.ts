import { createHash } from 'node:crypto';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { PictureStore } from './picture-store.ts';

const file = (size: number, fill = 1): Uint8Array => Buffer.alloc(size, fill);
const hashOf = (data: Uint8Array): string => createHash('sha256').update(data).digest('hex');

describe('PictureStore', () => {
  it('keeps one copy of a picture that several requests have', () => {
    const store = new PictureStore({ maxPinnedBytes: 100, maxCachedBytes: 100 });
    const hash = store.add(file(60));
    expect(hash).toBe(hashOf(file(60)));
    expect(store.add(file(60))).toBe(hash);
    expect(store.pinnedBytes).toBe(60);
    store.unpin(hash!);
    expect([store.pinnedBytes, store.cachedBytes]).toEqual([60, 0]);
    store.unpin(hash!);
    expect([store.pinnedBytes, store.cachedBytes]).toEqual([0, 60]);
    expect(() => store.unpin(hash!)).toThrow('not pinned');
  });

  it('refuses what does not fit beside pinned ones, new or cached', () => {
    const store = new PictureStore({ maxPinnedBytes: 100, maxCachedBytes: 100 });
    const cached = store.add(file(50, 2))!;
    store.unpin(cached);
    store.add(file(60));
    expect(store.add(file(41, 3))).toBeUndefined();
    expect(store.pin(cached)).toBe(false);
    expect(store.has(cached)).toBe(true);
  });

  it('forgets the picture that was used longest ago', () => {
    const store = new PictureStore({ maxPinnedBytes: 1000, maxCachedBytes: 100 });
    const hashes = [1, 2, 3].map((fill) => store.add(file(50, fill))!);
    for (const hash of hashes) store.unpin(hash);
    expect(hashes.map((hash) => store.has(hash))).toEqual([false, true, true]);
    store.pin(hashes[1]!);
    store.unpin(hashes[1]!);
    store.unpin(store.add(file(50, 4))!);
    expect(hashes.map((hash) => store.has(hash))).toEqual([false, true, false]);
    expect(store.data(hashes[1]!)).toEqual(file(50, 2));
  });

  it('stays within its limits whatever happens', () => {
    const step = fc.record({ size: fc.integer({ min: 1, max: 50 }), release: fc.nat(20) });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 100 }), (steps) => {
        const store = new PictureStore({ maxPinnedBytes: 100, maxCachedBytes: 60 });
        const pinned: string[] = [];
        for (const { size, release } of steps) {
          const hash = store.add(file(size));
          if (hash !== undefined) pinned.push(hash);
          if (release < pinned.length) store.unpin(pinned.splice(release, 1)[0]!);
          expect(store.pinnedBytes).toBeLessThanOrEqual(100);
          expect(store.cachedBytes).toBeLessThanOrEqual(60);
          for (const held of pinned) expect(store.has(held)).toBe(true);
        }
        for (const held of pinned) store.unpin(held);
        expect(store.pinnedBytes).toBe(0);
      }),
      { seed: 3, numRuns: 300 },
    );
  });
});
