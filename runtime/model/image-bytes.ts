// What an encoded picture takes in memory: pure arithmetic.

import type { ModelConfig } from './config.ts';
import { bytesPerElement, type WeightDType } from './tensor-plan.ts';

/** Bytes of the rows [imageTokens, H] of one encoded picture; every rank keeps them whole. */
export function imageBytes(config: ModelConfig, dtype: WeightDType): number {
  return config.imageTokens * config.llm.hiddenSize * bytesPerElement(dtype);
}

/** What a rank may keep of encoded pictures. */
export interface EncodedImageMemory {
  /** Of one picture. */
  readonly imageBytes: number;
  /** Pictures that sequences hold, at most. */
  readonly maxEncodedImages: number;
  /** Bytes of those that nobody holds, at most. */
  readonly encoderCacheBytes: number;
}

/** Pictures that nobody holds and that are kept, at most: whole ones. */
export function maxCachedImages({ imageBytes, encoderCacheBytes }: EncodedImageMemory): number {
  return Math.floor(encoderCacheBytes / imageBytes);
}

/** Encoded pictures that a rank comes to keep at most. */
export function mostImages(memory: EncodedImageMemory): number {
  return memory.maxEncodedImages + maxCachedImages(memory);
}

/** Bytes that they take. */
export function mostImageBytes(memory: EncodedImageMemory): number {
  return mostImages(memory) * memory.imageBytes;
}
