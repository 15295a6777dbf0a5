// How a rank divides the memory that is promised to it between keys and values and encoded pictures: pure arithmetic.

import { mostImageBytes } from './image-bytes.ts';
import type { EncodedImageMemory } from './image-bytes.ts';

/** The encoder cache takes at most this share of a fraction that was promised: a rank with little memory still starts. */
const MOST_ENCODER_CACHE = 1 / 2;

/** What each of the caches of a rank may take, in bytes. */
export interface CacheMemory {
  readonly kvBytes: number;
  /** Of pictures that no sequence holds. */
  readonly encoderCacheBytes: number;
}

/**
 * A fraction of freeBytes is for all that grows while the rank serves: the KV cache gets what encoded pictures, those in use included, cannot come to take
 * of it. Bytes are the KV cache's alone.
 */
export function divideCacheMemory(
  kvCache: { readonly bytes: number } | { readonly fraction: number },
  freeBytes: number,
  pictures: EncodedImageMemory,
): CacheMemory {
  if ('bytes' in kvCache) {
    return { kvBytes: kvCache.bytes, encoderCacheBytes: pictures.encoderCacheBytes };
  }
  const promised = Math.floor(freeBytes * kvCache.fraction);
  const encoderCacheBytes = Math.min(pictures.encoderCacheBytes, Math.floor(promised * MOST_ENCODER_CACHE));
  const pictureBytes = mostImageBytes({ ...pictures, encoderCacheBytes });
  return { kvBytes: Math.max(0, promised - pictureBytes), encoderCacheBytes };
}
