// What a rank's forward passes take of its device's memory beside weights and caches: pure arithmetic over the calls of llama.ts, vision.ts and
// projector.ts. All results of one layer live until the layer is done.

import type { ModelConfig } from './config.ts';
import { localVisionHeads, localVocab, type Quantization } from './partition.ts';
import { bytesPerElement, type WeightDType } from './tensor-plan.ts';

/** Working memory of single operations (matrix products, attention), and what alignment takes. */
const OPERATION_BYTES = 96 << 20;

export interface ActivationLimits {
  readonly worldSize: number;
  readonly dtype: WeightDType;
  readonly quantization: Quantization;
  /** Tokens of a step, at most. */
  readonly maxBatchedTokens: number;
  /** Rows of logits of a step, at most. */
  readonly maxSequences: number;
}

/** Bytes of results that live at once, at most: of a step over all the tokens or of the encoding of one picture. */
export function activationBytes(config: ModelConfig, limits: ActivationLimits): number {
  return Math.max(stepBytes(config, limits), pictureBytes(config, limits)) + OPERATION_BYTES;
}

/** x and what it is normalised, a layer's results: qkv, attention, sum, gate and up, their product, sum; what a product rounds of its factor; then the same of rows with logits, and these. */
function stepBytes(config: ModelConfig, limits: ActivationLimits): number {
  const { worldSize, dtype, quantization, maxBatchedTokens, maxSequences } = limits;
  const { hiddenSize, numHeads, numKvHeads, headDim, intermediateSize } = config.llm;
  const element = bytesPerElement(dtype);
  const heads = ((2 * numHeads + 2 * numKvHeads) / worldSize) * headDim; // qkv and attention
  const inner = (3 * intermediateSize) / worldSize;
  // A byte each and a scale, of the widest; they come and go while the results before them stay.
  const widest = Math.max(hiddenSize, intermediateSize / worldSize);
  const rounded = quantization === 'fp8' && dtype === 'bfloat16' ? widest + 4 : 0;
  const perToken = (2 * hiddenSize + heads + inner) * element + 2 * sumBytes(hiddenSize, limits) + rounded;
  const vocab = localVocab(config, worldSize);
  const perLogits = 4 * vocab * (worldSize > 1 ? 1 + worldSize : 1) + 2 * hiddenSize * element;
  return maxBatchedTokens * perToken + maxSequences * perLogits;
}

/** The same of the vision tower, with the sums of squares of queries and keys; the projector's results are fewer. */
function pictureBytes(config: ModelConfig, limits: ActivationLimits): number {
  const { hiddenSize, headDim, intermediateSize, imageSize, patchSize } = config.vision;
  const element = bytesPerElement(limits.dtype);
  const patches = (imageSize / patchSize) ** 2;
  const width = localVisionHeads(config, limits.worldSize) * headDim;
  const inner = Math.ceil(intermediateSize / limits.worldSize);
  const perRow = (2 * hiddenSize + 4 * width + inner) * element + 2 * sumBytes(hiddenSize, limits) + 8;
  const embedded = (3 * patchSize * patchSize + hiddenSize) * element;
  return (patches + 1) * (perRow + embedded);
}

/** The output of a layer whose input features are split: with several ranks summed in float32 before it is rounded. */
function sumBytes(width: number, { worldSize, dtype }: ActivationLimits): number {
  return width * (bytesPerElement(dtype) + (worldSize > 1 && dtype !== 'float32' ? 4 : 0));
}
