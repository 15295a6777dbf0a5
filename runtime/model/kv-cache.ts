// The memory of the paged KV cache on one rank, and the rotary table that keys are written with. Which block belongs to whom is the
// engine's business.

import type { Native, Tensor } from '../native/index.ts';
import type { LlmConfig } from './config.ts';
import { rotaryTable } from './rope.ts';
import type { WeightDType } from './tensor-plan.ts';

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

/** Keys and values per layer, [blocks * blockSize (and the spare block), local KV heads * headDim] each, and the rotary table [maxModelLength, headDim]. */
export class KvCache {
  readonly #native: Native;
  readonly keys: readonly Tensor[];
  readonly values: readonly Tensor[];
  readonly rotary: Tensor;
  readonly blockSize: number;

  constructor(
    native: Native,
    config: LlmConfig,
    worldSize: number,
    dtype: WeightDType,
    options: KvCacheOptions,
  ) {
    const { blocks, blockSize, maxModelLength, spareBlock = false } = options;
    const shape = [
      (spareBlock ? blocks + 1 : blocks) * blockSize,
      (config.numKvHeads / worldSize) * config.headDim,
    ];
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
