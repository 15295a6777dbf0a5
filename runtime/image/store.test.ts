import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ImageError } from './image-error.ts';
import { hashImage, ImageStore } from './store.ts';

const image = (bytes = 10) => ({ pixels: new Uint8Array(bytes), width: 1, height: 1 });
const open = (maxBytes = 30, maxWaiters = 4) => new ImageStore({ maxBytes, maxWaiters });
const present = (store: ImageStore, hashes = ['a', 'b', 'c', 'd']) =>
  hashes.filter((hash) => store.has(hash));

describe('ImageStore', () => {
  it('drops the picture that was unused longest', async () => {
    const store = open();
    for (const hash of ['a', 'b', 'c']) store.put(hash, image());
    await store.acquire('a');
    store.release('a');
    store.put('d', image());
    expect(present(store)).toEqual(['a', 'c', 'd']);
    expect(store.bytes).toBe(30);
  });

  it('keeps acquired pictures and counts acquisitions', async () => {
    const store = open();
    store.put('a', image());
    await Promise.all([store.acquire('a'), store.acquire('a')]);
    store.release('a');
    store.put('b', image());
    store.put('c', image(20));
    expect(present(store)).toEqual(['a', 'c']);
    store.release('a');
    store.put('d', image());
    expect(present(store)).toEqual(['c', 'd']);
    expect(() => store.release('c')).toThrow('image c is not acquired');
  });

  it('refuses a picture for which acquired ones leave no room, and drops nothing for it', async () => {
    const store = open();
    store.put('a', image(25));
    await store.acquire('a');
    store.put('b', image(5));
    const waiting = store.acquire('c');
    expect(() => store.put('c', image(6))).toThrow(ImageError);
    await expect(waiting).rejects.toMatchObject({ code: 'overloaded' });
    expect(present(store)).toEqual(['a', 'b']);
    expect(() => open().put('x', image(31))).toThrow('no room for a picture of 31 bytes');
  });

  it('hands a picture to all who wait for it, acquired', async () => {
    const store = open();
    const waiting = [store.acquire('a'), store.acquire('a')];
    expect(store.isAwaited('a')).toBe(true);
    const arrived = image();
    store.put('a', arrived);
    expect(await Promise.all(waiting)).toEqual([arrived, arrived]);
    store.put('b', image(20));
    expect(() => store.put('c', image(25))).toThrow(ImageError);
    store.release('a');
    store.release('a');
    expect(() => store.release('a')).toThrow(RangeError);
    expect([store.waiters, store.isAwaited('a')]).toEqual([0, false]);
  });

  it('keeps the first of two equal pictures', async () => {
    const store = open();
    const first = image();
    store.put('a', first);
    store.put('a', image());
    expect(await store.acquire('a')).toBe(first);
    expect(store.bytes).toBe(10);
  });

  it('ends waiting with the failure or the abort, and forgets the waiter', async () => {
    const store = open();
    const controller = new AbortController();
    const waiting = [store.acquire('a', controller.signal), store.acquire('a'), store.acquire('b')];
    controller.abort(new Error('gone'));
    store.fail('a', new Error('corrupt'));
    const outcomes = await Promise.allSettled([waiting[0], waiting[1]]);
    expect(outcomes).toMatchObject([{ reason: { message: 'gone' } }, { reason: { message: 'corrupt' } }]);
    expect(store.waiters).toBe(1);
    await expect(store.acquire('b', controller.signal)).rejects.toThrow('gone');
    store.fail('b', new Error('closed'));
    await expect(waiting[2]).rejects.toThrow('closed');
  });

  it('bounds those who wait', async () => {
    const store = open(30, 1);
    const waiting = store.acquire('a');
    await expect(store.acquire('b')).rejects.toMatchObject({ code: 'overloaded' });
    store.put('a', image());
    await waiting;
    expect(store.waiters).toBe(0);
  });

  it('never holds more than its bytes nor loses an acquired picture', async () => {
    const action = fc.record({
      kind: fc.constantFrom('put', 'acquire', 'release'),
      hash: fc.constantFrom('a', 'b', 'c', 'd'),
      bytes: fc.nat(15),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(action, { maxLength: 60 }), async (actions) => {
        const store = open();
        const acquired: string[] = [];
        for (const { kind, hash, bytes } of actions) {
          if (kind === 'put') {
            try {
              store.put(hash, image(bytes));
            } catch (error) {
              expect(error).toBeInstanceOf(ImageError);
            }
          } else if (kind === 'acquire' && store.has(hash)) {
            await store.acquire(hash);
            acquired.push(hash);
          } else if (kind === 'release' && acquired.includes(hash)) {
            store.release(hash);
            acquired.splice(acquired.indexOf(hash), 1);
          }
          expect(store.bytes).toBeLessThanOrEqual(30);
          expect(acquired.every((one) => store.has(one))).toBe(true);
        }
      }),
      { seed: 7 },
    );
  });

  it('addresses a picture by its SHA-256', () => {
    expect(hashImage(new TextEncoder().encode('abc'))).toBe(
      'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad',
    );
  });
});
