import { describe, expect, it } from 'vitest';

import { EncodedImages } from './encoded-images.ts';
import type { EncodedImageLimits } from './encoded-images.ts';

const PIXELS = Uint8Array.of(1, 2, 3);

function tableOf(limits: Partial<EncodedImageLimits> = {}): EncodedImages {
  const images = new EncodedImages({
    maxImageEncodes: 2,
    maxEncodedImages: 3,
    maxCachedImages: 0,
    ...limits,
  });
  images.beginStep();
  return images;
}

describe('EncodedImages', () => {
  it('encodes a picture once for all who hold it and drops it after the last', () => {
    const images = tableOf();
    const id = images.acquire('a', PIXELS);
    expect(images.acquire('a', PIXELS)).toBe(id);
    expect(images.endStep()).toEqual({ free: [], encode: new Map([[id, PIXELS]]) });
    images.beginStep();
    images.release(id ?? -1);
    expect(images.endStep().free).toEqual([]);
    images.beginStep();
    images.release(id ?? -1);
    expect(images.endStep().free).toEqual([id]);
    expect(images.numHeld).toBe(0);
  });

  it('finds a picture that was released since the last plan', () => {
    const images = tableOf();
    const id = images.acquire('a', PIXELS) ?? -1;
    images.endStep();
    images.release(id);
    images.beginStep();
    expect(images.acquire('a', PIXELS)).toBe(id);
    expect(images.endStep()).toEqual({ free: [], encode: new Map() });
  });

  it('bounds the encodes of a step and the pictures held', () => {
    const images = tableOf();
    expect([images.acquire('a', PIXELS), images.acquire('b', PIXELS)]).toEqual([0, 1]);
    expect(images.canAcquire('c')).toBe(false);
    expect(images.acquire('c', PIXELS)).toBeUndefined();
    expect(images.acquire('b', PIXELS)).toBe(1);
    images.endStep();
    images.beginStep();
    expect(images.acquire('c', PIXELS)).toBe(2);
    expect(images.acquire('d', PIXELS)).toBeUndefined();
    expect(images.numHeld).toBe(3);
  });

  it('never encodes what was given up in the step that asked for it', () => {
    const images = tableOf();
    images.release(images.acquire('a', PIXELS) ?? -1);
    expect(images.endStep()).toEqual({ free: [], encode: new Map() });
    images.beginStep();
    images.release(images.acquire('b', PIXELS) ?? -1);
    images.beginStep();
    expect(images.acquire('b', PIXELS)).toBe(0);
    expect([...images.endStep().encode.keys()]).toEqual([0]);
  });

  /** Acquires and releases each in a step of its own; the names of the pictures that were encoded for it, and the ids dropped. */
  function use(images: EncodedImages, names: readonly string[]): { encoded: string[]; freed: number[] } {
    const [encoded, freed]: [string[], number[]] = [[], []];
    for (const name of names) {
      images.beginStep();
      const id = images.acquire(name, PIXELS) ?? -1;
      const { free, encode } = images.endStep();
      if (encode.has(id)) encoded.push(name);
      freed.push(...free);
      images.release(id);
    }
    return { encoded, freed };
  }

  it('keeps the pictures used last, up to a bound beyond those that are held', () => {
    const images = tableOf({ maxCachedImages: 2 });
    expect(use(images, ['a', 'b', 'a', 'c', 'a', 'b', 'c'])).toEqual({
      encoded: ['a', 'b', 'c'],
      freed: [],
    });
    expect(use(images, ['d', 'c', 'a'])).toEqual({ encoded: ['d', 'a'], freed: [0, 1] });
    expect(images.numEncoded).toBe(3); // the last to be released is dropped by the next plan at the latest
    expect([images.hits, images.misses]).toEqual([5, 5]);
    expect(images.endStep().free).toEqual([3]);
  });

  it('holds no kept picture against the limit of those held, and never drops a held one', () => {
    const images = tableOf({ maxEncodedImages: 1, maxCachedImages: 1 });
    use(images, ['a', 'b']);
    images.beginStep();
    expect(images.acquire('a', PIXELS)).toBe(0);
    expect(images.acquire('b', PIXELS)).toBeUndefined();
    expect(images.endStep()).toEqual({ free: [], encode: new Map() });
    expect(images.numEncoded).toBe(2);
  });

  it('refuses to release what is not held', () => {
    expect(() => {
      tableOf().release(0);
    }).toThrow(/image 0 is released but not held/);
  });
});
