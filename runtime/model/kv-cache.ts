// The memory of the paged KV cache on one rank, and the rotary table that keys are written with. Which block belongs to whom is the
// engine's business.

import type { Native, Tensor } from '../native/index.ts';
import type { LlmConfig } from './config.ts';
import { rotaryTable } from './rope.ts';
import type { KvDType } from './kv-cache-size.ts';

/** Sizes of the cache. */
export interface KvCacheOptions {
  readonly blocks: number;
  /** Tokens a block. */
  readonly blockSize: number;
  /** Longest sequence that will be decoded; rows of the rotary table. */
  readonly maxModelLength: number;
  /** One block more, for the engine to know nothing of. */
  readonly spareBlock?: boolean;
}

/**
 * Keys and values per layer, and the rotary table [maxModelLength, headDim]. A slot is a place for a token: blocks * blockSize, and the spare block's. Keys are
 * [slots, local KV heads * headDim], and so are values; float8 ones [local KV heads * slots, headDim], so that each row, which has a scale, is one vector.
 */
export class KvCache {
  readonly #native: Native;
  readonly keys: readonly Tensor[];
  readonly values: readonly Tensor[];
  readonly rotary: Tensor;
  readonly blockSize: number;

  constructor(native: Native, config: LlmConfig, worldSize: number, dtype: KvDType, options: KvCacheOptions) {
    const { blocks, blockSize, maxModelLength, spareBlock = false } = options;
    const slots = (spareBlock ? blocks + 1 : blocks) * blockSize;
    const heads = config.numKvHeads / worldSize;
    const shape = dtype === 'float8' ? [heads * slots, config.headDim] : [slots, heads * config.headDim];
    const allocate = () => Array.from({ length: config.numLayers }, () => native.allocate(dtype, shape));
    this.#native = native;
    this.blockSize = blockSize;
    this.keys = allocate();
    this.values = allocate();
    const table = rotaryTable(maxModelLength, config.headDim, config.ropeTheta);
    this.rotary = native.allocate('float32', [maxModelLength, config.headDim]);
    native.write(this.rotary, 0, new Uint8Array(table.buffer));
  }

  free(): void {
    for (const tensor of [...this.keys, ...this.values, this.rotary]) this.#native.free(tensor);
  }
}
