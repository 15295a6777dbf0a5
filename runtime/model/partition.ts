// The tensor-parallel plan. Column-parallel layers (q/k/v, gate/up, fc1) keep a share of their output features, row-parallel layers
// (o, down, proj, fc2) the matching share of their input features; the sum over the ranks then needs one all-reduce per pair. Biases of
// row-parallel layers are held by every rank and added once, after the all-reduce. Vision heads, vision and projector widths and the
// vocabulary may be padded with zeros; heads and the intermediate size of the language model must divide.

import type { ModelConfig } from './config.ts';
import {
  columnShare,
  replicated,
  rowBlocks,
  rowShare,
  scaled,
  span,
  vectorShare,
  type StoredDType,
  type TensorPlan,
  type WeightDType,
} from './tensor-plan.ts';

/** int8 and fp8 keep the linear layers of the language model's decoder in a byte each, whole numbers or e4m3, with a scale for each output feature. */
export type Quantization = 'none' | 'int8' | 'fp8';

/** The model cannot be split into this many ranks; the message says why and which sizes work. */
export class PartitionError extends Error {
  override readonly name = 'PartitionError';
  readonly code = 'invalid_partition';
}

/** Tensor-parallel sizes that this model can be split into, smallest first. */
export function supportedWorldSizes(config: ModelConfig): number[] {
  const { numHeads, numKvHeads, intermediateSize } = config.llm;
  const sizes: number[] = [];
  for (let size = 1; size <= numKvHeads; size++)
    if (numKvHeads % size === 0 && numHeads % size === 0 && intermediateSize % size === 0) sizes.push(size);
  return sizes;
}

/** Throws PartitionError unless the language model can be split into worldSize ranks. */
export function validate(config: ModelConfig, worldSize: number): void {
  const { numHeads, numKvHeads, intermediateSize } = config.llm;
  const axes: [string, number][] = [
    ['key/value heads (num_key_value_heads)', numKvHeads],
    ['attention heads (num_attention_heads)', numHeads],
    ['intermediate features (intermediate_size)', intermediateSize],
  ];
  const sizes = supportedWorldSizes(config).join(', ');
  if (!Number.isSafeInteger(worldSize) || worldSize < 1)
    throw new PartitionError(
      `tensor-parallel size ${worldSize} is not a positive whole number; this model can be split into ${sizes}`,
    );
  for (const [what, count] of axes)
    if (count % worldSize !== 0)
      throw new PartitionError(
        `tensor-parallel size ${worldSize} does not divide the language model's ${count} ${what}; this model can be split into ${sizes}`,
      );
}

/** Vision heads of each rank, padding included. */
export function localVisionHeads(config: ModelConfig, worldSize: number): number {
  return Math.ceil(config.vision.numHeads / worldSize);
}

/** Rows of the vocabulary of each rank, padding included. */
export function localVocab(config: ModelConfig, worldSize: number): number {
  return Math.ceil(config.llm.vocabSize / worldSize);
}

/** Every tensor of one rank; throws PartitionError when the model cannot be split so. */
export function partition(
  config: ModelConfig,
  rank: number,
  worldSize: number,
  dtype: WeightDType,
  quantization: Quantization = 'none',
): TensorPlan[] {
  validate(config, worldSize);
  if (!Number.isSafeInteger(rank) || rank < 0 || rank >= worldSize)
    throw new PartitionError(`rank ${rank} does not lie in 0..${worldSize - 1}`);
  return [
    ...visionPlan(config, rank, worldSize, dtype),
    ...projectorPlan(config, rank, worldSize, dtype),
    ...languagePlan(config, rank, worldSize, dtype, linearDType(dtype, quantization)),
  ];
}

function linearDType(dtype: WeightDType, quantization: Quantization): StoredDType {
  if (quantization === 'none') return dtype;
  return quantization === 'fp8' ? 'float8' : quantization;
}

function visionPlan(
  { vision }: ModelConfig,
  rank: number,
  worldSize: number,
  dtype: WeightDType,
): TensorPlan[] {
  const { hiddenSize: h, intermediateSize, patchSize, imageSize } = vision;
  const patch = [h, 3, patchSize, patchSize];
  const positions = (imageSize / patchSize) ** 2 + 1;
  const embeddings = 'vision_model.embeddings.';
  const plans = [
    replicated('vision.patchEmbedding.weight', dtype, `${embeddings}patch_embedding.weight`, patch, [
      h,
      3 * patchSize * patchSize,
    ]),
    replicated('vision.patchEmbedding.bias', dtype, `${embeddings}patch_embedding.bias`, [h]),
    replicated('vision.classEmbedding', dtype, `${embeddings}class_embedding`, [1, 1, h], [h]),
    replicated(
      'vision.positionEmbedding',
      dtype,
      `${embeddings}position_embedding`,
      [1, positions, h],
      [positions, h],
    ),
  ];
  const features = scaled(span(vision.numHeads, rank, worldSize), vision.headDim);
  const inner = span(intermediateSize, rank, worldSize);
  for (let i = 0; i < vision.layersToRun; i++) {
    const to = `vision.layers.${i}.`;
    const from = `vision_model.encoder.layers.${i}.`;
    const third = { source: `${from}attn.qkv.weight`, sourceRows: 3 * h, share: features };
    plans.push(
      replicated(`${to}norm1`, dtype, `${from}norm1.weight`, [h]),
      // Each third is padded by itself: the heads of q, k and v stay aligned.
      rowBlocks(
        `${to}qkv`,
        dtype,
        h,
        [0, h, 2 * h].map((offset) => ({ ...third, offset })),
      ),
    );
    if (vision.qkNormalization)
      plans.push(
        vectorShare(`${to}qNorm`, dtype, `${from}attn.q_norm.weight`, h, features),
        vectorShare(`${to}kNorm`, dtype, `${from}attn.k_norm.weight`, h, features),
      );
    plans.push(
      columnShare(`${to}proj.weight`, dtype, `${from}attn.proj.weight`, h, h, features),
      replicated(`${to}proj.bias`, dtype, `${from}attn.proj.bias`, [h]),
      replicated(`${to}ls1`, dtype, `${from}ls1`, [h]),
      replicated(`${to}norm2`, dtype, `${from}norm2.weight`, [h]),
      rowShare(`${to}fc1.weight`, dtype, `${from}mlp.fc1.weight`, intermediateSize, h, inner),
      vectorShare(`${to}fc1.bias`, dtype, `${from}mlp.fc1.bias`, intermediateSize, inner),
      columnShare(`${to}fc2.weight`, dtype, `${from}mlp.fc2.weight`, h, intermediateSize, inner),
      replicated(`${to}fc2.bias`, dtype, `${from}mlp.fc2.bias`, [h]),
      replicated(`${to}ls2`, dtype, `${from}ls2`, [h]),
    );
  }
  return plans;
}

function projectorPlan(
  { vision, llm }: ModelConfig,
  rank: number,
  worldSize: number,
  dtype: WeightDType,
): TensorPlan[] {
  const input = 4 * vision.hiddenSize;
  const h = llm.hiddenSize;
  const inner = span(h, rank, worldSize);
  return [
    replicated('projector.norm.weight', dtype, 'mlp1.0.weight', [input]),
    replicated('projector.norm.bias', dtype, 'mlp1.0.bias', [input]),
    rowShare('projector.fc1.weight', dtype, 'mlp1.1.weight', h, input, inner),
    vectorShare('projector.fc1.bias', dtype, 'mlp1.1.bias', h, inner),
    columnShare('projector.fc2.weight', dtype, 'mlp1.3.weight', h, h, inner),
    replicated('projector.fc2.bias', dtype, 'mlp1.3.bias', [h]),
  ];
}

function languagePlan(
  { llm }: ModelConfig,
  rank: number,
  worldSize: number,
  dtype: WeightDType,
  linear: StoredDType,
): TensorPlan[] {
  const { hiddenSize: h, numHeads, numKvHeads, headDim, intermediateSize, vocabSize } = llm;
  const vocab = span(vocabSize, rank, worldSize);
  const qFeatures = scaled(span(numHeads, rank, worldSize), headDim);
  const kvFeatures = scaled(span(numKvHeads, rank, worldSize), headDim);
  const inner = span(intermediateSize, rank, worldSize);
  const model = 'language_model.model.';
  const plans = [rowShare('language.embedTokens', dtype, `${model}embed_tokens.weight`, vocabSize, h, vocab)];
  for (let i = 0; i < llm.numLayers; i++) {
    const to = `language.layers.${i}.`;
    const from = `${model}layers.${i}.`;
    const block = (module: string, sourceRows: number, share: typeof inner) => ({
      source: `${from}${module}.weight`,
      sourceRows,
      offset: 0,
      share,
    });
    plans.push(
      replicated(`${to}inputLayernorm`, dtype, `${from}input_layernorm.weight`, [h]),
      rowBlocks(`${to}qkvProj`, linear, h, [
        block('self_attn.q_proj', numHeads * headDim, qFeatures),
        block('self_attn.k_proj', numKvHeads * headDim, kvFeatures),
        block('self_attn.v_proj', numKvHeads * headDim, kvFeatures),
      ]),
      columnShare(`${to}oProj`, linear, `${from}self_attn.o_proj.weight`, h, numHeads * headDim, qFeatures),
      replicated(`${to}postAttentionLayernorm`, dtype, `${from}post_attention_layernorm.weight`, [h]),
      rowBlocks(`${to}gateUpProj`, linear, h, [
        block('mlp.gate_proj', intermediateSize, inner),
        block('mlp.up_proj', intermediateSize, inner),
      ]),
      columnShare(`${to}downProj`, linear, `${from}mlp.down_proj.weight`, h, intermediateSize, inner),
    );
  }
  plans.push(replicated('language.norm', dtype, `${model}norm.weight`, [h]));
  // Tied: the output head is language.embedTokens itself, and an lm_head.weight in the file is not read.
  if (!llm.tieWordEmbeddings)
    plans.push(rowShare('language.lmHead', dtype, 'language_model.lm_head.weight', vocabSize, h, vocab));
  return plans;
}
