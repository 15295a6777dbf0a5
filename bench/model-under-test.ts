// One rank of a model of a given shape with random weights, and the forward passes that are measured on it.
import type { Batch } from '../runtime/engine/batch.ts';
import { StepInputs } from '../runtime/engine/step-inputs.ts';
import type { Weights } from '../runtime/model/loader.ts';
import { parseModelConfig, type ModelConfig } from '../runtime/model/config.ts';
import { dummyWeights } from '../runtime/model/dummy-weights.ts';
import { InternVL } from '../runtime/model/internvl.ts';
import { partition, type Quantization } from '../runtime/model/partition.ts';
import { kvBytesPerToken } from '../runtime/model/kv-cache-size.ts';
import { planBytes, type TensorPlan, type WeightDType } from '../runtime/model/tensor-plan.ts';
import { native, type Native, type Tensor } from '../runtime/native/index.ts';

export const BLOCK_SIZE = 16;
const KV_BLOCKS = 1200;
const MAX_SEQUENCES = 128;
const PIXELS = new Uint8Array(448 * 448 * 3).map((_, i) => (i * 31) % 251);

export interface MeasuredOptions {
  readonly dtype: WeightDType;
  readonly quantization: Quantization;
  readonly threads: number;
  /** Of the KV cache, 16 tokens each; enough for a few dozen sequences when absent. */
  readonly kvBlocks?: number;
  /** One rank of a group whose collective is connected before the first pass; of one rank when absent. */
  readonly place?: { readonly rank: number; readonly worldSize: number };
  /** Operations to call in place of the addon's. */
  readonly ops?: Native;
}

/** Bytes of a rank that holds all of a shape, and of each token of its cache. */
export function modelBytes(
  shape: unknown,
  dtype: WeightDType,
  quantization: Quantization,
): { readonly weights: number; readonly perToken: number } {
  const config = parseModelConfig(shape);
  const plans = partition(config, 0, 1, dtype, quantization);
  return {
    weights: plans.reduce((sum, plan) => sum + planBytes(plan), 0),
    perToken: kvBytesPerToken(config, 1, dtype),
  };
}

/** A model to measure: forward passes without scheduler or sockets. */
export class ModelUnderTest {
  readonly config: ModelConfig;
  readonly #dtype: WeightDType;
  readonly #plans: readonly TensorPlan[];
  readonly #ops: Native;
  readonly #weights: Weights;
  readonly #model: InternVL;

  /** `shape` is a checkpoint's config.json. */
  constructor(shape: unknown, options: MeasuredOptions) {
    const { dtype, quantization, threads, place = { rank: 0, worldSize: 1 }, ops = native() } = options;
    ops.setThreads(threads);
    this.config = parseModelConfig(shape);
    this.#dtype = dtype;
    this.#plans = partition(this.config, place.rank, place.worldSize, dtype, quantization);
    this.#ops = ops;
    this.#weights = dummyWeights(ops, this.#plans);
    this.#model = new InternVL(ops, this.config, this.#weights, {
      ...place,
      dtype,
      decodeGraphs:
        ops.deviceInfo().graphs && place.worldSize === 1 ? { maxSequences: MAX_SEQUENCES } : undefined,
      kvCache: { blocks: options.kvBlocks ?? KV_BLOCKS, blockSize: BLOCK_SIZE, maxModelLength: 4096 },
    });
  }

  /** A step of `sequences` sequences that have `context` tokens each: what to run, any number of times. */
  decode(sequences: number, context: number): () => void {
    const step = batch(sequences, context, 1);
    return () => void this.#model.forward(step)?.();
  }

  prefill(tokens: number): () => void {
    const step = batch(1, 0, tokens);
    return () => void this.#model.forward(step)?.();
  }

  encodeImage(): void {
    this.#model.encodeImage(0, PIXELS);
    this.#model.freeImage(0);
  }

  /** The matrix products of `prefill(tokens)` alone: what its time cannot fall below without faster products. */
  prefillProducts(tokens: number): () => void {
    return this.#products(this.#rowsOfPrefill(tokens));
  }

  /** The matrix products of `encodeImage` alone. */
  imageProducts(): () => void {
    return this.#products(this.#rowsOfImage());
  }

  /** Floating point operations of `decode(sequences, context)`: of its products and of attention. */
  decodeFlops(sequences: number, context: number): number {
    const { numLayers, numHeads, headDim } = this.config.llm;
    const attention = 4 * sequences * (context + 1) * numLayers * numHeads * headDim;
    const rowsOf = (name: string) => (isProjection(name) || name === LM_HEAD ? sequences : 0);
    return this.#flops(rowsOf) + attention;
  }

  prefillFlops(tokens: number): number {
    const { numLayers, numHeads, headDim } = this.config.llm;
    // Each token attends to itself and to those before it.
    const attention = 2 * tokens * (tokens + 1) * numLayers * numHeads * headDim;
    return this.#flops(this.#rowsOfPrefill(tokens)) + attention;
  }

  imageFlops(): number {
    const { layersToRun, hiddenSize } = this.config.vision;
    const attention = 4 * (this.#patches + 1) ** 2 * layersToRun * hiddenSize;
    return this.#flops(this.#rowsOfImage()) + attention;
  }

  get #patches(): number {
    const { imageSize, patchSize } = this.config.vision;
    return (imageSize / patchSize) ** 2;
  }

  /** By how many rows each weight is multiplied; 0 = none. */
  #rowsOfPrefill(tokens: number): (name: string) => number {
    const last = `language.layers.${this.config.llm.numLayers - 1}.`;
    return (name) => {
      if (name === LM_HEAD) return 1;
      if (!isProjection(name)) return 0;
      return name.startsWith(last) && !name.endsWith('qkvProj') ? 1 : tokens;
    };
  }

  #rowsOfImage(): (name: string) => number {
    return (name) => {
      if (name === 'vision.patchEmbedding.weight') return this.#patches;
      if (/^vision\.layers\.\d+\.(qkv|proj\.weight|fc\d\.weight)$/.test(name)) return this.#patches + 1;
      return /^projector\.fc\d\.weight$/.test(name) ? this.config.imageTokens : 0;
    };
  }

  #flops(rowsOf: (name: string) => number): number {
    return this.#plans.reduce(
      (sum, { name, shape }) => sum + 2 * rowsOf(name) * (shape[0] ?? 0) * (shape[1] ?? 0),
      0,
    );
  }

  /** Multiplies each weight with as many rows as `rowsOf` says. */
  #products(rowsOf: (name: string) => number): () => void {
    const ops = this.#ops;
    const inputs = new Map<string, Tensor>();
    const input = (rows: number, columns: number): Tensor => {
      const size = `${rows}x${columns}`;
      const made = inputs.get(size) ?? ops.allocate(this.#dtype, [rows, columns]);
      inputs.set(size, made);
      return made;
    };
    const factors = this.#plans
      .filter(({ name }) => rowsOf(name) > 0)
      .map(({ name, shape }) => ({ x: input(rowsOf(name), shape[1] ?? 0), weight: this.#weights.get(name) }));
    return () => {
      for (const { x, weight } of factors) {
        const mark = ops.mark();
        ops.linear(x, weight, null, this.#dtype);
        ops.release(mark);
      }
    };
  }

  /** What a decode step must read: every language weight but the embedding table, and the keys and values of the context. */
  decodeBytes(sequences: number, context: number): number {
    const weights = this.#plans
      .filter(({ name }) => name.startsWith('language.') && name !== 'language.embedTokens')
      .reduce((sum, plan) => sum + planBytes(plan), 0);
    const { numLayers, numKvHeads, headDim } = this.config.llm;
    const perToken = 2 * numLayers * numKvHeads * headDim * (this.#dtype === 'float32' ? 4 : 2);
    return weights + sequences * context * perToken;
  }

  close(): void {
    this.#model.close();
  }
}

const LM_HEAD = 'language.lmHead';

function isProjection(name: string): boolean {
  return /^language\.layers\.\d+\.\w+Proj$/.test(name);
}

/** S sequences that have `computed` tokens each and now compute `count` more. */
function batch(sequences: number, computed: number, count: number): Batch {
  const tokens = sequences * count;
  const maxBlocks = Math.ceil((computed + count) / BLOCK_SIZE);
  const slotOf = (sequence: number, position: number) => sequence * maxBlocks * BLOCK_SIZE + position;
  const perToken = (f: (sequence: number, index: number) => number) =>
    Int32Array.from({ length: tokens }, (_, t) => f(Math.floor(t / count), t % count));
  const inputs = new StepInputs(tokens, sequences);
  inputs.ids.set(perToken((s, i) => 100 + ((s * 31 + i) % 5000)));
  return {
    step: 0,
    numTokens: tokens,
    numSequences: sequences,
    inputs,
    positions: perToken((_, i) => computed + i),
    slots: perToken((s, i) => slotOf(s, computed + i)),
    queryStart: Int32Array.from({ length: sequences + 1 }, (_, s) => s * count),
    contextLengths: new Int32Array(sequences).fill(computed + count),
    blockTables: Int32Array.from({ length: sequences * maxBlocks }, (_, i) => i),
    maxBlocks,
    logitRows: Int32Array.from({ length: sequences }, (_, s) => (s + 1) * count - 1),
    imageRows: [],
  };
}
