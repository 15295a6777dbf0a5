import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { Submission } from '../engine/engine.ts';
import { ImageStore } from '../image/store.ts';
import { ParkingLot } from './parked.ts';
import { PictureWaits } from './picture-waits.ts';
import { Pictures } from './pictures.ts';
import type { Request } from './wire.ts';

const LIMITS = { maxRequests: 2, maxBytes: 1000, maxAgeMs: 100 };

function request(handle: number, hashes: readonly string[], tokens = 4): Request {
  return {
    handle,
    tokenIds: new Uint32Array(tokens),
    images: hashes.map((hash, index) => ({ hash, offset: index, length: 1 })),
    sampling: {
      temperature: 0,
      topP: 1,
      topK: 0,
      repetitionPenalty: 1,
      maxTokens: 1,
      minTokens: 0,
      seed: undefined,
      stopTokenIds: [],
      ignoreEos: false,
    },
    logprobs: undefined,
    priority: 0,
    cacheSalt: '',
  };
}

function setUp() {
  const store = new ImageStore({ maxBytes: 1000, maxWaiters: 16 });
  const parking = new ParkingLot(LIMITS);
  const pool = { preprocess: () => Promise.reject(new Error('not used')) };
  const seen = {
    needed: [] as string[],
    ready: [] as Submission[],
    rejected: [] as [number, string][],
  };
  const waits = new PictureWaits(
    { pictures: new Pictures(store, pool, 1000), parking },
    {
      need: (hash) => seen.needed.push(hash),
      ready: (submission) => seen.ready.push(submission),
      reject: (handle, error) => seen.rejected.push([handle, error.reason]),
    },
  );
  const put = (hash: string): void => store.put(hash, { pixels: Uint8Array.of(7), width: 1, height: 1 });
  return { parking, waits, seen, put };
}

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());
const settle = (): Promise<unknown> => vi.advanceTimersByTimeAsync(0);

describe('PictureWaits', () => {
  it('asks for what is missing alone, and submits when the last has come', async () => {
    const { waits, seen, put, parking } = setUp();
    put('a');
    waits.add(request(1, ['a', 'b', 'b', 'c']));
    expect(seen.needed).toEqual(['b', 'c']);
    put('b');
    await settle();
    expect(seen.ready).toEqual([]);
    put('c');
    await settle();
    expect(seen.ready.map(({ handle, images }) => [handle, images.map(({ hash }) => hash)])).toEqual([
      [1, ['a', 'b', 'b', 'c']],
    ]);
    expect(parking.numParked).toBe(0);
    await vi.advanceTimersByTimeAsync(1000);
    expect(seen.rejected).toEqual([]);
  });

  it('gives up after a while, and leaves its place', async () => {
    const { waits, seen, put, parking } = setUp();
    waits.add(request(1, ['a']));
    await vi.advanceTimersByTimeAsync(LIMITS.maxAgeMs);
    expect(seen.rejected).toEqual([[1, 'IMAGE_NOT_SENT']]);
    put('a');
    await settle();
    expect(seen.ready).toEqual([]);
    expect(parking.numParked).toBe(0);
  });

  it.each([
    ['number', [request(1, ['a']), request(2, ['a']), request(3, ['a'])], 3],
    ['bytes', [request(1, ['a'], 200), request(2, ['a'], 200)], 2],
  ])('is bounded in %s', async (_, requests, refused) => {
    const { waits, seen } = setUp();
    for (const each of requests) waits.add(each);
    await settle();
    expect(seen.rejected).toEqual([[refused, 'TOO_MANY_WAITING_FOR_IMAGES']]);
  });

  it('does not mistake a new submission for a cancelled one of the same handle', async () => {
    const { waits, seen, put } = setUp();
    waits.add(request(1, ['a']));
    expect(waits.cancel(1)).toBe(true);
    expect(waits.cancel(1)).toBe(false);
    waits.add(request(1, ['b']));
    put('a');
    await settle();
    expect(seen.ready).toEqual([]);
    put('b');
    await settle();
    expect(seen.ready.map(({ images }) => images[0]?.hash)).toEqual(['b']);
    expect(seen.rejected).toEqual([]);
  });
});
