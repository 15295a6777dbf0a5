// One rank of the whole model: pictures are encoded once and kept as rows, then put in place of their tokens when the language model
// reaches them.

import type { Batch, Logits, Model } from '../engine/batch.ts';
import type { Native, Tensor } from '../native/index.ts';
import { batchIndices } from './batch-indices.ts';
import type { BatchIndices } from './batch-indices.ts';
import type { ModelConfig } from './config.ts';
import { DecodeGraphs, isDecode } from './decode-graphs.ts';
import type { DecodeResults } from './decode-graphs.ts';
import { ImageSlots } from './image-slots.ts';
import { kvDType, type KvCacheDType } from './kv-cache-size.ts';
import { KvCache, type KvCacheOptions } from './kv-cache.ts';
import { LlamaDecoder } from './llama.ts';
import type { Weights } from './loader.ts';
import type { RankContext, Taps } from './parallel.ts';
import { localVisionHeads, localVocab } from './partition.ts';
import { Projector } from './projector.ts';
import { StepLogits } from './step-logits.ts';
import type { WeightDType } from './tensor-plan.ts';
import { VisionTower } from './vision.ts';
import { promptBatch, tryingOrder } from './warm-up-batches.ts';

/** A device tries out how to compute chunks of prompts no longer than that, in milliseconds. */
const TRYING_MS = 30_000;

/** What a model has done before it serves. */
export interface WarmUp {
  readonly ms: number;
  /** Of products, that the device has tried out how to compute. */
  readonly shapes: number;
  /** Sizes of chunks of a prompt that it was to try out, and those that there was no time for. */
  readonly chunkSizes: number;
  readonly untried: number;
}

export interface InternVLOptions {
  readonly rank: number;
  readonly worldSize: number;
  readonly dtype: WeightDType;
  readonly kvCache: Omit<KvCacheOptions, 'spareBlock'>;
  /** Of the cache; absent: as the model computes. */
  readonly kvCacheDtype?: KvCacheDType | undefined;
  /**
   * Rows of logits and tokens of a step, at most, when steps may be begun before the tokens of the last are known: where calls return before their work is
   * done.
   */
  readonly runsAhead?: { readonly maxSequences: number; readonly maxBatchedTokens: number } | undefined;
  /** Most sequences of a step, when decode steps are to be recorded once and launched as one. The device must be able to, and the model whole. */
  readonly decodeGraphs?: { readonly maxSequences: number } | undefined;
  /** Encoded pictures that memory is set aside for; what is kept beyond takes some as it comes. */
  readonly maxKeptImages?: number | undefined;
  /** Called once per layer. */
  readonly progress?: (() => void) | undefined;
  /** Sees intermediate tensors; for tests. */
  readonly taps?: Taps | undefined;
}

/**
 * The model on one rank. The group's collective must be connected before the first call when worldSize > 1. A call that throws leaves the
 * ranks out of step: the group is then lost.
 */
export class InternVL implements Model {
  readonly vocabSize: number;
  readonly #context: RankContext;
  readonly #config: ModelConfig;
  readonly #weights: Weights;
  readonly #cache: KvCache;
  readonly #vision: VisionTower;
  readonly #projector: Projector;
  readonly #language: LlamaDecoder;
  /** Image embeddings [imageTokens, H] by the engine's number for the picture. */
  readonly #images: ImageSlots;
  readonly runsAhead: boolean;
  /** Of the longest prompt for which the device tries out how to compute it; 0: none. */
  readonly #tunedTokens: number;
  /** Of two steps in turn: one's are looked at while the next is under way. */
  readonly #logits: readonly [StepLogits, StepLogits];
  #step = 0;
  /** int32 [n, 1] the token chosen from each row of the last step's logits, where steps run ahead of those who ask. */
  #last: Tensor | undefined;
  readonly #graphs: DecodeGraphs | undefined;
  /** Where the arena stood before the last step, whose logits lie in it. */
  #before: number | undefined;

  /** Takes over the weights: close() frees them. */
  constructor(native: Native, config: ModelConfig, weights: Weights, options: InternVLOptions) {
    const {
      rank,
      worldSize,
      dtype,
      kvCache,
      kvCacheDtype = 'auto',
      runsAhead,
      decodeGraphs,
      progress,
      taps,
    } = options;
    this.#context = { native, dtype, rank, worldSize, progress, taps };
    this.#config = config;
    this.#weights = weights;
    this.vocabSize = config.llm.vocabSize;
    const spareBlock = decodeGraphs !== undefined;
    const keptAs = kvDType(kvCacheDtype, dtype);
    this.#cache = new KvCache(native, config.llm, worldSize, keptAs, { ...kvCache, spareBlock });
    const { imageTokens, llm } = config;
    this.#images = new ImageSlots(native, dtype, imageTokens, llm.hiddenSize, options.maxKeptImages ?? 0);
    const heads = localVisionHeads(config, worldSize);
    this.#vision = new VisionTower(this.#context, config.vision, heads, weights);
    this.#projector = new Projector(this.#context, config, weights);
    const vocab = localVocab(config, worldSize);
    this.#language = new LlamaDecoder(this.#context, config.llm, vocab, weights, this.#cache);
    this.#logits = [new StepLogits(native, this.vocabSize), new StepLogits(native, this.vocabSize)];
    this.runsAhead = runsAhead !== undefined;
    // The cache is nobody's yet, and a prompt for tuning must fit it.
    const { blocks, blockSize, maxModelLength } = kvCache;
    this.#tunedTokens = Math.min(runsAhead?.maxBatchedTokens ?? 0, blocks * blockSize, maxModelLength);
    if (runsAhead) this.#last = native.allocate('int32', [runsAhead.maxSequences, 1]);
    if (decodeGraphs) {
      const sizes = { ...kvCache, ...decodeGraphs, spareBlock: kvCache.blocks };
      this.#graphs = new DecodeGraphs(native, sizes, (indices) => this.#decodeStep(indices));
    }
  }

  /** Lets the device choose how to compute what it will be asked for, and records the decode steps. `now`: milliseconds of a clock. */
  warmUp(now: () => number): WarmUp {
    const begin = now();
    const { native } = this.#context;
    // Rank 0 alone looks at the clock: all ranks must compute the same.
    const go = Int32Array.of(1);
    const sizes = tryingOrder(native.rowRanges(this.#tunedTokens));
    let untried = sizes.length;
    if (untried > 0) this.#tuned(() => this.#projector.project(this.#vision.encode(this.#blank())));
    for (const size of sizes) {
      go[0] = now() - begin < TRYING_MS ? 1 : 0;
      native.broadcast(go, 0);
      if (go[0] === 0) break;
      this.#tuned(() => this.#compute(promptBatch(size, this.#cache.blockSize)));
      untried -= 1;
    }
    this.#graphs?.record();
    return { ms: now() - begin, shapes: native.tune(false), chunkSizes: sizes.length, untried };
  }

  encodeImage(image: number, pixels: Uint8Array | undefined): void {
    const { native, rank } = this.#context;
    const bytes = 3 * this.#config.vision.imageSize ** 2;
    const shared = rank === 0 ? pixels : new Uint8Array(bytes);
    if (shared?.length !== bytes)
      throw new RangeError(`picture ${image} has ${shared?.length ?? 0} bytes of pixels, not ${bytes}`);
    const { rows, first } = this.#images.take(image);
    native.broadcast(shared, 0);
    this.#endStep();
    const mark = native.mark();
    try {
      const hidden = this.#vision.encode(shared); // [patches + 1, vision width]
      const projected = this.#projector.project(hidden); // [imageTokens, H]
      native.copyRows(rows, first, projected, 0, this.#config.imageTokens);
    } finally {
      native.release(mark);
    }
  }

  freeImage(image: number): void {
    this.#images.release(image);
  }

  forward(batch: Batch): (() => Logits) | undefined {
    const { native, rank } = this.#context;
    native.broadcast(batch.inputs.words, 0);
    this.#endStep();
    this.#before = native.mark();
    const results = this.#graphs && isDecode(batch) ? this.#graphs.run(batch) : this.#compute(batch);
    if (rank > 0) return undefined;
    this.#step += 1;
    const logits = this.#logits[this.#step % 2 === 0 ? 0 : 1];
    if (results) logits.take(...results, batch.logitRows.length);
    else logits.takeNone();
    return () => logits.wait();
  }

  close(): void {
    this.#endStep();
    this.#graphs?.free();
    if (this.#last !== undefined) this.#context.native.free(this.#last);
    this.#images.close();
    this.#cache.free();
    this.#weights.free();
  }

  /** Computes something for nothing but the choices that the device makes meanwhile. */
  #tuned(compute: () => unknown): void {
    const { native } = this.#context;
    const mark = native.mark();
    native.tune(true);
    compute();
    native.tune(false);
    native.release(mark);
  }

  #blank(): Uint8Array {
    return new Uint8Array(3 * this.#config.vision.imageSize ** 2);
  }

  /** Gives back what the last step left, also of one that threw. */
  #endStep(): void {
    if (this.#before !== undefined) this.#context.native.release(this.#before);
    this.#before = undefined;
  }

  /** Any batch; undefined when no logits are wanted, or here nobody chooses from them. */
  #compute(batch: Batch): DecodeResults | undefined {
    const { native, rank, taps } = this.#context;
    const indices = batchIndices(native, batch);
    const x = this.#embed(indices); // [T, H]
    this.#mergeImages(x, batch);
    taps?.('merged', x);
    const hidden = this.#language.decode(x, indices); // [L, H]
    if (indices.numLogits === 0) return undefined;
    if (rank === 0 || this.runsAhead) return this.#choose(hidden, indices);
    this.#language.logits(hidden); // rank 0 gathers them, and alone looks at them
    return undefined;
  }

  /** One token of each sequence, none of a picture, every row's logits wanted. */
  #decodeStep(indices: BatchIndices): DecodeResults {
    return this.#choose(this.#language.decode(this.#embed(indices), indices), indices); // [S, H]
  }

  /** Of ids and of the last step's choices that stand for some of them -> [T, H] */
  #embed({ inputIds }: BatchIndices): Tensor {
    if (this.#last !== undefined) this.#context.native.resolveIds(inputIds, this.#last);
    return this.#language.embed(inputIds);
  }

  /**
   * Hidden states [L, H] -> logits [L, tp * ceil(V / tp)] and the tokens chosen from them [L, 1]; the padding of the vocabulary stands at the end of each
   * row. Ranks that run ahead choose alike, since they have the same logits and draws.
   */
  #choose(hidden: Tensor, { draws }: BatchIndices): DecodeResults {
    const { native } = this.#context;
    const logits = this.#language.logits(hidden);
    const chosen = native.chooseTokens(logits, this.vocabSize, draws);
    if (this.#last !== undefined) native.copyRows(this.#last, 0, chosen, 0, native.shape(chosen)[0] ?? 0);
    return [logits, chosen];
  }

  /** Overwrites the rows of image tokens in x [T, H]. */
  #mergeImages(x: Tensor, batch: Batch): void {
    for (const { image, sourceRow, targetRow, count } of batch.imageRows) {
      const { rows, first } = this.#images.get(image);
      this.#context.native.copyRows(x, targetRow, rows, first + sourceRow, count);
    }
  }
}
