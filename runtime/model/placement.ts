// What each rank of a tensor-parallel group holds, from config.json alone: for `internvl inspect` and for memory estimates before loading.

import type { ModelConfig } from './config.ts';
import { kvBytesPerBlock, kvBytesPerToken, kvDType, type KvCacheDType } from './kv-cache-size.ts';
import { localVisionHeads, localVocab, partition, type Quantization } from './partition.ts';
import { elements, paddingBytes, planBytes, type TensorPlan, type WeightDType } from './tensor-plan.ts';

/** Bytes of one rank's weights, padding included. */
export interface RankWeights {
  readonly rank: number;
  readonly visionBytes: number;
  readonly projectorBytes: number;
  readonly languageBytes: number;
  readonly totalBytes: number;
  /** Part of totalBytes that is zeros. */
  readonly paddingBytes: number;
}

/** An axis that is rounded up to a multiple of the tensor-parallel size. */
export interface Padding {
  readonly real: number;
  readonly padded: number;
  /** Share of the padded axis that is padding, 0..1. */
  readonly waste: number;
}

/** How many tokens of KV cache are left on a GPU beside the largest rank's weights; 0 when the weights do not fit. */
export interface GpuFit {
  readonly gpu: string;
  readonly memoryBytes: number;
  readonly fits: boolean;
  readonly kvTokens: number;
}

export interface Placement {
  readonly worldSize: number;
  readonly dtype: WeightDType;
  readonly quantization: Quantization;
  readonly kvCacheDtype: KvCacheDType;
  readonly blockSize: number;
  /** Parameters of the unsplit model. */
  readonly parameters: number;
  readonly ranks: readonly RankWeights[];
  readonly visionHeads: Padding;
  readonly vocabulary: Padding;
  readonly kvBytesPerToken: number;
  readonly kvBytesPerBlock: number;
  readonly gpus: readonly GpuFit[];
}

/** Memory as the driver reports it, in MiB. */
const GPUS: readonly (readonly [name: string, mebibytes: number])[] = [
  ['A100 40 GB', 40_960],
  ['L40S 48 GB', 46_068],
  ['A100 80 GB', 81_920],
  ['H100 80 GB', 81_559],
  ['H200 141 GB', 143_771],
  ['B200 192 GB', 183_359],
];

/** Kept free on a GPU for the driver's context, the libraries' workspaces and the activations of a step. */
const RESERVED_BYTES = 2 * 2 ** 30;

/** What every rank holds and what fits where; throws PartitionError when the model cannot be split so. */
export function describePlacement(
  config: ModelConfig,
  worldSize: number,
  dtype: WeightDType,
  options: {
    readonly blockSize: number;
    readonly quantization?: Quantization;
    readonly kvCacheDtype?: KvCacheDType;
  },
): Placement {
  const { blockSize, quantization = 'none', kvCacheDtype = 'auto' } = options;
  const kept = kvDType(kvCacheDtype, dtype);
  const ranks: RankWeights[] = [];
  for (let rank = 0; rank < worldSize; rank++)
    ranks.push(rankWeights(rank, partition(config, rank, worldSize, dtype, quantization)));
  const perToken = kvBytesPerToken(config, worldSize, kept);
  const largest = Math.max(...ranks.map((rank) => rank.totalBytes));
  return {
    worldSize,
    dtype,
    quantization,
    kvCacheDtype,
    blockSize,
    parameters: parameterCount(config),
    ranks,
    visionHeads: padding(config.vision.numHeads, localVisionHeads(config, worldSize) * worldSize),
    vocabulary: padding(config.llm.vocabSize, localVocab(config, worldSize) * worldSize),
    kvBytesPerToken: perToken,
    kvBytesPerBlock: kvBytesPerBlock(config, worldSize, kept, blockSize),
    gpus: GPUS.map(([gpu, mebibytes]) => {
      const memoryBytes = mebibytes * 2 ** 20;
      const left = memoryBytes - RESERVED_BYTES - largest;
      const blocks = Math.max(0, Math.floor(left / (perToken * blockSize)));
      return { gpu, memoryBytes, fits: blocks > 0, kvTokens: blocks * blockSize };
    }),
  };
}

/** Parameters that the forward pass reads; tied embeddings count once. */
export function parameterCount(config: ModelConfig): number {
  return partition(config, 0, 1, 'bfloat16').reduce((sum, plan) => sum + elements(plan.shape), 0);
}

function rankWeights(rank: number, plans: readonly TensorPlan[]): RankWeights {
  const part = (prefix: string) => sumBytes(plans.filter((plan) => plan.name.startsWith(prefix)));
  return {
    rank,
    visionBytes: part('vision.'),
    projectorBytes: part('projector.'),
    languageBytes: part('language.'),
    totalBytes: sumBytes(plans),
    paddingBytes: plans.reduce((sum, plan) => sum + paddingBytes(plan), 0),
  };
}

function sumBytes(plans: readonly TensorPlan[]): number {
  return plans.reduce((sum, plan) => sum + planBytes(plan), 0);
}

function padding(real: number, padded: number): Padding {
  return { real, padded, waste: (padded - real) / padded };
}
