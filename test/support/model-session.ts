// Drives a model through prefill and greedy decoding in tests. Every rank of a group makes the same calls; only rank 0 knows token ids
// and sees logits, the others count along with zeros.

import { openCheckpoint } from '../../runtime/checkpoint/checkpoint.ts';
import type { Logits, Model } from '../../runtime/engine/batch.ts';
import { placeholderOf } from '../../runtime/engine/executor.ts';
import { InternVL } from '../../runtime/model/internvl.ts';
import type { KvCacheDType } from '../../runtime/model/kv-cache-size.ts';
import { loadWeights } from '../../runtime/model/loader.ts';
import type { Taps } from '../../runtime/model/parallel.ts';
import { partition, type Quantization } from '../../runtime/model/partition.ts';
import type { WeightDType } from '../../runtime/model/tensor-plan.ts';
import { native } from '../../runtime/native/index.ts';
import type { Draw } from './logits.ts';
import { makeBatch, type BatchPart, type PlacedImage, type TestSequence } from './batches.ts';

const BLOCK_SIZE = 16;
const BLOCKS = 192;
/** Coprime to BLOCKS, so that blocks handed out one after another lie far apart. */
const BLOCK_STRIDE = 53;

export interface TestModelOptions {
  readonly dtype: WeightDType;
  readonly quantization?: Quantization;
  readonly kvCacheDtype?: KvCacheDType | undefined;
  readonly rank?: number;
  readonly worldSize?: number;
  readonly progress?: () => void;
  readonly taps?: Taps;
  /** Steps may be begun before the tokens of the last are known. */
  readonly runsAhead?: boolean;
}

/** Loads one rank of a checkpoint directory with a cache of 3072 tokens. */
export function loadTestModel(directory: string, options: TestModelOptions): InternVL {
  const { dtype, kvCacheDtype, rank = 0, worldSize = 1, progress, taps } = options;
  const checkpoint = openCheckpoint(directory);
  const { config } = checkpoint;
  const weights = loadWeights(
    native(),
    checkpoint,
    partition(config, rank, worldSize, dtype, options.quantization),
  );
  const maxModelLength = Math.min(1024, config.llm.maxPositionEmbeddings);
  const kvCache = { blocks: BLOCKS, blockSize: BLOCK_SIZE, maxModelLength };
  const runsAhead = options.runsAhead ? { maxSequences: 4, maxBatchedTokens: 64 } : undefined;
  const places = { rank, worldSize, dtype, kvCache, kvCacheDtype };
  return new InternVL(native(), config, weights, { ...places, progress, taps, runsAhead });
}

export class ModelSession {
  readonly #model: Model;
  readonly #freeBlocks = Array.from({ length: BLOCKS }, (_, i) => (i * BLOCK_STRIDE) % BLOCKS);
  #step = 0;

  constructor(model: Model) {
    this.#model = model;
  }

  start(ids: readonly number[], images: readonly PlacedImage[] = []): TestSequence {
    return { ids: [...ids], images, computed: 0, blocks: [] };
  }

  /** One forward pass: logits [rows, vocabSize] of the rows that the parts want, undefined on ranks > 0. */
  step(parts: readonly BatchPart[]): Float32Array[] | undefined {
    for (const { sequence, count } of parts) this.#reserve(sequence, sequence.computed + count);
    const batch = makeBatch(this.#step++, parts, BLOCK_SIZE);
    const logits = this.#model.forward(batch)?.();
    for (const { sequence, count } of parts) sequence.computed += count;
    if (logits === undefined) return undefined;
    return Array.from(batch.logitRows, (_, row) => logits.row(row).slice());
  }

  /** Computes the tokens so far in chunks; the logits of the last one. */
  prefill(sequence: TestSequence, chunk = Infinity): Float32Array | undefined {
    for (;;) {
      const left = sequence.ids.length - sequence.computed;
      const count = Math.min(left, chunk);
      const rows = this.step([{ sequence, count, logits: count === left ? 'last' : 'none' }]);
      if (count === left) return rows?.[0];
    }
  }

  /** Appends `steps` greedy tokens to a prompt: the tokens, and the logits each was chosen from. */
  greedy(
    sequence: TestSequence,
    steps: number,
    chunk = Infinity,
  ): { tokens: number[]; logits: Float32Array[] } {
    const tokens: number[] = [];
    const logits: Float32Array[] = [];
    for (let i = 0; i < steps; i++) {
      const row = this.prefill(sequence, chunk);
      if (row !== undefined) logits.push(row);
      const token = row === undefined ? 0 : argmax(row);
      tokens.push(token);
      sequence.ids.push(token);
    }
    return { tokens, logits };
  }

  /** A token for each of the draws; where the model runs ahead, each step is begun before the token of the last is looked at. */
  drawn(sequence: TestSequence, draws: readonly Draw[]): number[] {
    const tokens: number[] = [];
    const take = (wait: (() => Logits) | undefined): number => tokens.push(wait?.().chosen?.[0] ?? 0);
    let underWay: (() => Logits) | undefined;
    for (const [index, { temperature, topK, topP, share }] of draws.entries()) {
      const count = sequence.ids.length - sequence.computed;
      this.#reserve(sequence, sequence.ids.length);
      const batch = makeBatch(this.#step++, [{ sequence, count, logits: 'last' }], BLOCK_SIZE);
      batch.inputs.draws.set([temperature, topK, topP, share]);
      const wait = this.#model.forward(batch);
      sequence.computed += count;
      if (!this.#model.runsAhead) take(wait);
      else if (index > 0) take(underWay);
      underWay = wait;
      sequence.ids.push(this.#model.runsAhead ? placeholderOf(0) : (tokens.at(-1) ?? 0));
    }
    if (this.#model.runsAhead) take(underWay);
    return tokens;
  }

  /** Gives the sequence's blocks back. */
  finish(sequence: TestSequence): void {
    this.#freeBlocks.push(...sequence.blocks.splice(0));
  }

  #reserve(sequence: TestSequence, tokens: number): void {
    while (sequence.blocks.length * BLOCK_SIZE < tokens) {
      const block = this.#freeBlocks.shift();
      if (block === undefined) throw new RangeError('the test cache is full');
      sequence.blocks.push(block);
    }
  }
}

export function argmax(row: Float32Array): number {
  let best = 0;
  for (let i = 1; i < row.length; i++) if ((row[i] ?? -Infinity) > (row[best] ?? -Infinity)) best = i;
  return best;
}

/** Largest difference over the largest magnitude of the reference. */
export function relativeError(found: Float32Array, reference: Float32Array): number {
  if (found.length !== reference.length)
    throw new RangeError(`${found.length} values against ${reference.length} of the reference`);
  let difference = 0;
  let magnitude = 0;
  for (const [i, value] of reference.entries()) {
    const error = Math.abs((found[i] ?? NaN) - value);
    if (!(error <= difference)) difference = error; // NaN counts as the largest
    magnitude = Math.max(magnitude, Math.abs(value));
  }
  return difference / magnitude;
}
