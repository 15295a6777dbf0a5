import { describe, expect, it } from 'vitest';

import { config40B } from '../../test/support/model-configs.ts';
import { divideCacheMemory } from './cache-memory.ts';
import { imageBytes, maxCachedImages, mostImageBytes } from './image-bytes.ts';

const PICTURES = { imageBytes: 1000, maxEncodedImages: 2, encoderCacheBytes: 5999 };

describe('memory of encoded pictures', () => {
  it('is that of those in use and of whole ones that are kept', () => {
    expect([maxCachedImages(PICTURES), mostImageBytes(PICTURES)]).toEqual([5, 7000]);
    expect(mostImageBytes({ ...PICTURES, encoderCacheBytes: 0 })).toBe(2000);
    const published = { imageBytes: imageBytes(config40B(), 'bfloat16'), maxEncodedImages: 32 };
    expect(mostImageBytes({ ...published, encoderCacheBytes: 256 << 20 })).toBe((32 + 73) * 256 * 7168 * 2);
  });
});

describe('a fraction of what is free', () => {
  it.each([
    ['goes to keys and values but for what pictures can take', 100_000, 0.5, 43_000, 5999],
    ['gives pictures no more than half', 10_000, 0.8, 2000, 4000],
    ['keeps what pictures in use take', 4000, 0.5, 0, 1000],
    ['is nothing of nothing', 0, 0.3, 0, 0],
  ])('%s', (_, freeBytes, fraction, kvBytes, encoderCacheBytes) => {
    const memory = divideCacheMemory({ fraction }, freeBytes, PICTURES);
    expect(memory).toEqual({ kvBytes, encoderCacheBytes });
  });

  it('is never exceeded by both together, where pictures in use fit', () => {
    for (let freeBytes = 15_000; freeBytes < 200_000; freeBytes += 1777) {
      for (const fraction of [0.3, 0.5, 0.95]) {
        const { kvBytes, encoderCacheBytes } = divideCacheMemory({ fraction }, freeBytes, PICTURES);
        const pictureBytes = mostImageBytes({ ...PICTURES, encoderCacheBytes });
        expect(kvBytes + pictureBytes).toBeLessThanOrEqual(freeBytes * fraction);
        expect(kvBytes).toBeGreaterThan(0);
      }
    }
  });

  it('leaves all to keys and values without an encoder cache and without pictures', () => {
    const none = { imageBytes: 1000, maxEncodedImages: 0, encoderCacheBytes: 0 };
    expect(divideCacheMemory({ fraction: 0.25 }, 1000, none).kvBytes).toBe(250);
  });
});

describe('bytes', () => {
  it("are the KV cache's alone", () => {
    const memory = divideCacheMemory({ bytes: 4096 }, 1, PICTURES);
    expect(memory).toEqual({ kvBytes: 4096, encoderCacheBytes: 5999 });
  });
});
