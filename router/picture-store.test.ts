import { createHash } from 'node:crypto';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { PictureFile } from './picture-file.ts';
import { PictureStore, type Upload } from './picture-store.ts';

const file = (size: number, fill = 1): Uint8Array => Buffer.alloc(size, fill);
const hashOf = (data: Uint8Array): string => createHash('sha256').update(data).digest('hex');

describe('PictureStore', () => {
  it('keeps one copy of a picture that several requests have', () => {
    const store = new PictureStore({ maxPinnedBytes: 100, maxUploadBytes: 50, maxCachedBytes: 100 });
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
    const store = new PictureStore({ maxPinnedBytes: 100, maxUploadBytes: 50, maxCachedBytes: 100 });
    const cached = store.add(file(50, 2))!;
    store.unpin(cached);
    store.add(file(60));
    expect(store.add(file(41, 3))).toBeUndefined();
    expect(store.pin(cached)).toBe(false);
    expect(store.has(cached)).toBe(true);
  });

  it('forgets the picture that was used longest ago', () => {
    const store = new PictureStore({ maxPinnedBytes: 1000, maxUploadBytes: 50, maxCachedBytes: 100 });
    const hashes = [1, 2, 3].map((fill) => store.add(file(50, fill))!);
    for (const hash of hashes) store.unpin(hash);
    expect(hashes.map((hash) => store.has(hash))).toEqual([false, true, true]);
    store.pin(hashes[1]!);
    store.unpin(hashes[1]!);
    store.unpin(store.add(file(50, 4))!);
    expect(hashes.map((hash) => store.has(hash))).toEqual([false, true, false]);
    expect([...store.file(hashes[1]!)!.chunks()]).toEqual([file(50, 2)]);
  });

  it('stays within its limits whatever happens', () => {
    const step = fc.record({ size: fc.integer({ min: 1, max: 50 }), release: fc.nat(20) });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 100 }), (steps) => {
        const store = new PictureStore({ maxPinnedBytes: 100, maxUploadBytes: 50, maxCachedBytes: 60 });
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

describe('an upload', () => {
  const LIMITS = { maxPinnedBytes: 100, maxUploadBytes: 50, maxCachedBytes: 60 };
  const upload = (store: PictureStore, size: number, fill = 1): { hash: string; release: () => void } => {
    const hash = hashOf(file(size, fill));
    const release = store.beginUpload(size)!.complete(hash, new PictureFile([file(size, fill)]));
    return { hash, release };
  };
  const held = (store: PictureStore): number[] => [store.pinnedBytes, store.uploadBytes, store.cachedBytes];

  it('holds its room from the beginning, and gives it back when it is abandoned', () => {
    const store = new PictureStore(LIMITS);
    const begun = store.beginUpload(40)!;
    expect(held(store)).toEqual([40, 40, 0]);
    expect(store.beginUpload(11)).toBeUndefined();
    begun.abandon();
    expect(held(store)).toEqual([0, 0, 0]);
  });

  it('leaves requests their part of the memory, and gets none that they fill', () => {
    const store = new PictureStore(LIMITS);
    store.add(file(60, 2));
    expect(store.beginUpload(41)).toBeUndefined();
    upload(store, 40);
    expect(store.add(file(1, 3))).toBeUndefined();
  });

  it('hands its pin to the first request that names it; releasing it later does nothing', () => {
    const store = new PictureStore(LIMITS);
    const { hash, release } = upload(store, 40);
    expect(store.pin(hash)).toBe(true);
    expect(held(store)).toEqual([40, 0, 0]);
    release();
    expect(held(store)).toEqual([40, 0, 0]);
    store.unpin(hash);
    expect(held(store)).toEqual([0, 0, 40]);
    release();
    expect(held(store)).toEqual([0, 0, 40]);
  });

  it('that nobody named in time is kept like any picture that nobody needs', () => {
    const store = new PictureStore(LIMITS);
    const { hash, release } = upload(store, 40);
    release();
    expect(held(store)).toEqual([0, 0, 40]);
    expect(store.has(hash)).toBe(true);
  });

  it('of a picture that a request holds waits beside it', () => {
    const store = new PictureStore(LIMITS);
    const hash = store.add(file(40))!;
    upload(store, 40);
    expect(held(store)).toEqual([40, 40, 0]);
    store.unpin(hash);
    expect(held(store)).toEqual([40, 40, 0]);
    expect(store.pin(hash)).toBe(true);
    expect(held(store)).toEqual([40, 0, 0]);
  });

  it('of a picture that was uploaded already waits from now on', () => {
    const store = new PictureStore(LIMITS);
    const { release: first } = upload(store, 20);
    const { release: second } = upload(store, 20);
    expect(held(store)).toEqual([20, 20, 0]);
    first();
    expect(held(store)).toEqual([20, 20, 0]);
    second();
    expect(held(store)).toEqual([0, 0, 20]);
  });

  it('never leaves memory behind, whatever happens in which order', () => {
    const step = fc.record({
      what: fc.constantFrom('add', 'begin', 'complete', 'abandon', 'expire', 'pin', 'unpin'),
      size: fc.integer({ min: 1, max: 4 }).map((size) => size * 10),
      which: fc.nat(9),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 120 }), (steps) => {
        const store = new PictureStore(LIMITS);
        const pinned: string[] = [];
        const coming: { size: number; upload: Upload }[] = [];
        const waiting: { hash: string; release: () => void }[] = [];
        const one = <T>(list: T[], which: number): T | undefined =>
          list.splice(which % (list.length || 1), 1)[0];
        for (const { what, size, which } of steps) {
          if (what === 'add') {
            const hash = store.add(file(size));
            if (hash !== undefined) pinned.push(hash);
          } else if (what === 'begin') {
            const begun = store.beginUpload(size);
            if (begun !== undefined) coming.push({ size, upload: begun });
          } else if (what === 'complete') {
            const begun = one(coming, which);
            if (begun === undefined) continue;
            const hash = hashOf(file(begun.size));
            waiting.push({ hash, release: begun.upload.complete(hash, new PictureFile([file(begun.size)])) });
          } else if (what === 'abandon') one(coming, which)?.upload.abandon();
          else if (what === 'expire') one(waiting, which)?.release();
          else if (what === 'pin') {
            const hash = hashOf(file(size));
            if (store.pin(hash)) pinned.push(hash);
          } else if (pinned.length > 0) store.unpin(one(pinned, which)!);
          expect(store.pinnedBytes).toBeLessThanOrEqual(100);
          expect(store.uploadBytes).toBeLessThanOrEqual(50);
          expect(store.uploadBytes).toBeLessThanOrEqual(store.pinnedBytes);
          expect(store.cachedBytes).toBeLessThanOrEqual(60);
          for (const hash of pinned) expect(store.has(hash)).toBe(true);
        }
        for (const hash of pinned) store.unpin(hash);
        for (const { release } of waiting) release();
        for (const { upload: begun } of coming) begun.abandon();
        expect(held(store).slice(0, 2)).toEqual([0, 0]);
      }),
      { seed: 5, numRuns: 500 },
    );
  });
});
