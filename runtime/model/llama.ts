// The Llama decoder over a paged KV cache: RMS norm, rotary grouped-query attention, gated MLP.

import type { Batch } from '../engine/batch.ts';
import type { Tensor } from '../native/index.ts';
import type { LlmConfig } from './config.ts';
import type { KvCache } from './kv-cache.ts';
import type { Weights } from './loader.ts';
import { rowParallelLinear, type RankContext } from './parallel.ts';

interface DecoderLayer {
  readonly inputLayernorm: Tensor; // [H]
  readonly qkvProj: Tensor; // [(Q + 2 KV) * D, H]
  readonly oProj: Tensor; // [H, Q * D]
  readonly postAttentionLayernorm: Tensor; // [H]
  readonly gateUpProj: Tensor; // [2I/tp, H]
  readonly downProj: Tensor; // [H, I/tp]
}

/**
 * One rank's part of the language model. T tokens of the batch, H hidden width, Q and KV this rank's query and key/value heads, D their width,
 * I intermediate width, V vocabulary, L rows whose logits are wanted.
 */
export class LlamaDecoder {
  readonly #context: RankContext;
  readonly #config: LlmConfig;
  readonly #cache: KvCache;
  readonly #numHeads: number;
  readonly #numKvHeads: number;
  readonly #vocabStart: number;
  readonly #embedTokens: Tensor; // [ceil(V / tp), H]
  readonly #layers: readonly DecoderLayer[];
  readonly #norm: Tensor; // [H]
  readonly #lmHead: Tensor; // [ceil(V / tp), H]

  constructor(context: RankContext, config: LlmConfig, localVocab: number, weights: Weights, cache: KvCache) {
    this.#context = context;
    this.#config = config;
    this.#cache = cache;
    this.#numHeads = config.numHeads / context.worldSize;
    this.#numKvHeads = config.numKvHeads / context.worldSize;
    this.#vocabStart = localVocab * context.rank;
    this.#embedTokens = weights.get('language.embedTokens');
    this.#layers = Array.from({ length: config.numLayers }, (_, i) => decoderLayer(weights, i));
    this.#norm = weights.get('language.norm');
    this.#lmHead = config.tieWordEmbeddings ? this.#embedTokens : weights.get('language.lmHead');
  }

  /** ids [T] -> embeddings [T, H] in the arena. */
  embed(ids: Int32Array): Tensor {
    const x = this.#context.native.embedding(this.#embedTokens, ids, this.#vocabStart); // [T, H], zero rows where another rank has the token
    this.#context.native.allReduce(x); // [T, H]; one summand is not zero, so nothing is rounded
    return x;
  }

  /** Runs the layers over x [T, H] in place and stores the keys and values of its tokens. */
  decode(x: Tensor, batch: Batch): void {
    const { native, progress, taps } = this.#context;
    for (const [i, layer] of this.#layers.entries()) {
      const mark = native.mark();
      this.#attention(x, i, layer, batch);
      this.#mlp(x, layer);
      native.release(mark);
      taps?.(`llm_layer_${i}`, x);
      progress?.();
    }
  }

  /** Hidden states x [T, H] -> float32 logits [L, tp * ceil(V / tp)] of the given rows, in the arena. */
  logits(x: Tensor, rows: Int32Array): Tensor {
    const { native, taps } = this.#context;
    const wanted = native.gatherRows(x, rows); // [L, H]
    const h = native.rmsNorm(wanted, this.#norm, this.#config.rmsNormEps); // [L, H]
    taps?.('llm_norm', h);
    const local = native.linear(h, this.#lmHead, null, 'float32'); // [L, ceil(V / tp)]
    return native.allGatherColumns(local); // [L, tp * ceil(V / tp)]
  }

  /** x += oProj(attention(inputLayernorm(x))), x [T, H] */
  #attention(x: Tensor, index: number, layer: DecoderLayer, batch: Batch): void {
    const { native, dtype } = this.#context;
    const { headDim, rmsNormEps } = this.#config;
    const { keys, values, rotary, blockSize } = this.#cache;
    const k = keys[index] as Tensor; // [blocks * blockSize, KV * D]
    const v = values[index] as Tensor; // [blocks * blockSize, KV * D]
    const heads = this.#numHeads;
    const kvHeads = this.#numKvHeads;
    const h = native.rmsNorm(x, layer.inputLayernorm, rmsNormEps); // [T, H]
    const qkv = native.linear(h, layer.qkvProj, null, dtype); // [T, (Q + 2 KV) * D]
    native.ropeAndStoreKv(qkv, batch.positions, batch.slots, rotary, k, v, heads, kvHeads, headDim);
    const a = native.pagedAttention(
      qkv,
      k,
      v,
      batch.queryStart,
      batch.contextLengths,
      batch.blockTables,
      batch.maxBlocks,
      blockSize,
      heads,
      kvHeads,
      headDim,
      1 / Math.sqrt(headDim),
    ); // [T, Q * D]
    const y = rowParallelLinear(this.#context, a, layer.oProj, null); // [T, H]
    native.addScaled(x, y, null);
  }

  /** x += downProj(silu(gate) * up), gate and up of postAttentionLayernorm(x), x [T, H] */
  #mlp(x: Tensor, layer: DecoderLayer): void {
    const { native, dtype } = this.#context;
    const h = native.rmsNorm(x, layer.postAttentionLayernorm, this.#config.rmsNormEps); // [T, H]
    const gateUp = native.linear(h, layer.gateUpProj, null, dtype); // [T, 2I/tp]
    const inner = native.siluMul(gateUp); // [T, I/tp]
    const y = rowParallelLinear(this.#context, inner, layer.downProj, null); // [T, H]
    native.addScaled(x, y, null);
  }
}

function decoderLayer(weights: Weights, index: number): DecoderLayer {
  const get = (name: string) => weights.get(`language.layers.${index}.${name}`);
  return {
    inputLayernorm: get('inputLayernorm'),
    qkvProj: get('qkvProj'),
    oProj: get('oProj'),
    postAttentionLayernorm: get('postAttentionLayernorm'),
    gateUpProj: get('gateUpProj'),
    downProj: get('downProj'),
  };
}
