// What an encoded picture takes in memory: pure arithmetic.

import type { ModelConfig } from './config.ts';
import { bytesPerElement, type WeightDType } from './tensor-plan.ts';

/** Bytes of the rows [imageTokens, H] of one encoded picture; every rank keeps them whole. */
export function imageBytes(config: ModelConfig, dtype: WeightDType): number {
  return config.imageTokens * config.llm.hiddenSize * bytesPerElement(dtype);
}
