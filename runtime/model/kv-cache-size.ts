// How large the paged KV cache of a rank is: pure arithmetic.

import type { ModelConfig } from './config.ts';
import { bytesPerElement, type WeightDType } from './tensor-plan.ts';

/** The memory given to the KV cache does not hold one sequence of the longest length; the message says how much does. */
export class KvCacheError extends Error {
  override readonly name = 'KvCacheError';
  readonly code = 'kv_cache_too_small';
}

/** What is asked for: the type that the model computes in, or e4m3. */
export type KvCacheDType = 'auto' | 'fp8';

/** The type that keys and values are kept in; float8 has a float32 scale for each token's key, and value, of each head. */
export type KvDType = WeightDType | 'float8';

export function kvDType(asked: KvCacheDType, dtype: WeightDType): KvDType {
  return asked === 'fp8' ? 'float8' : dtype;
}

/** Bytes that one token takes on one rank: a key and a value of each of the rank's heads in every layer. */
export function kvBytesPerToken(config: ModelConfig, worldSize: number, dtype: KvDType): number {
  const { numLayers, numKvHeads, headDim } = config.llm;
  const row = dtype === 'float8' ? headDim + 4 : headDim * bytesPerElement(dtype);
  return 2 * numLayers * (numKvHeads / worldSize) * row;
}

/** Bytes of one block of blockSize tokens on one rank. */
export function kvBytesPerBlock(
  config: ModelConfig,
  worldSize: number,
  dtype: KvDType,
  blockSize: number,
): number {
  return kvBytesPerToken(config, worldSize, dtype) * blockSize;
}

/** Blocks that a sequence of `tokens` tokens takes. */
export function blocksPerSequence(tokens: number, blockSize: number): number {
  return Math.ceil(tokens / blockSize);
}

export interface KvCacheLimits {
  /** Bytes that this rank may give to the cache. */
  readonly availableBytes: number;
  readonly bytesPerBlock: number;
  readonly blockSize: number;
  readonly maxModelLength: number;
  readonly maxSequences: number;
}

/**
 * Blocks to allocate: what fits, but no more than maxSequences full contexts can use. Throws KvCacheError when not even one sequence of
 * maxModelLength tokens fits.
 */
export function kvCacheBlocks(limits: KvCacheLimits): number {
  const { availableBytes, bytesPerBlock, blockSize, maxModelLength, maxSequences } = limits;
  const fitting = Math.max(0, Math.floor(availableBytes / bytesPerBlock));
  const perSequence = blocksPerSequence(maxModelLength, blockSize);
  if (fitting < perSequence)
    throw new KvCacheError(
      `${availableBytes} bytes of KV cache hold ${fitting * blockSize} tokens; one sequence of ${maxModelLength} tokens needs ${perSequence * bytesPerBlock} bytes: ` +
        'give the cache more memory, the encoder cache less, keep it as fp8 (--kv-cache-dtype), shorten the maximum model length or split the model over more ranks',
    );
  return Math.min(fitting, maxSequences * perSequence);
}
