// The Llama decoder over a paged KV cache: RMS norm, rotary grouped-query attention, gated MLP.

import type { Tensor } from '../native/index.ts';
import type { BatchIndices } from './batch-indices.ts';
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

  /** ids int32 [1, T] -> embeddings [T, H] in the arena. */
  embed(ids: Tensor): Tensor {
    const x = this.#context.native.embedding(this.#embedTokens, ids, this.#vocabStart); // [T, H], zero rows where another rank has the token
    this.#context.native.allReduce(x); // [T, H]; one summand is not zero, so nothing is rounded
    return x;
  }

  /**
   * Runs the layers over x [T, H] in place and stores the keys and values of its tokens. Returns the hidden states [L, H] of the rows whose
   * logits are wanted, normalised, in the arena: of the last layer, other rows need no more than their keys and values.
   */
  decode(x: Tensor, batch: BatchIndices): Tensor {
    const { native } = this.#context;
    const last = this.#layers.length - 1;
    const first = this.#layers[0] as DecoderLayer;
    const h = native.rmsNorm(x, first.inputLayernorm, this.#config.rmsNormEps); // [T, H] x as the next product takes it, from here on
    for (const [i, layer] of this.#layers.slice(0, last).entries()) {
      const mark = native.mark();
      const next = this.#layers[i + 1] as DecoderLayer;
      const qkv = this.#keysAndValues(h, i, layer, batch); // [T, (Q + 2 KV) * D]
      this.#addAttention(x, this.#attention(qkv, i, batch), layer, h);
      this.#addMlp(x, h, layer, next.inputLayernorm);
      native.release(mark);
      this.#done(i, x);
    }
    const layer = this.#layers[last] as DecoderLayer;
    const qkv = this.#keysAndValues(h, last, layer, batch); // [T, (Q + 2 KV) * D]
    const wanted = native.gatherRows(x, batch.logitRows); // [L, H]
    if (batch.numLogits === 0) {
      this.#done(last, wanted);
      return wanted;
    }
    const a = this.#attention(qkv, last, batch); // [T, Q * D]
    const normed = this.#addAttention(wanted, native.gatherRows(a, batch.logitRows), layer, null); // [L, H]
    this.#addMlp(wanted, normed, layer, this.#norm);
    this.#done(last, wanted);
    return normed;
  }

  /** Normalised hidden states h [L, H] -> float32 logits [L, tp * ceil(V / tp)], in the arena. */
  logits(h: Tensor): Tensor {
    const { native, taps } = this.#context;
    taps?.('llm_norm', h);
    const local = native.linear(h, this.#lmHead, null, 'float32'); // [L, ceil(V / tp)]
    return native.allGatherColumns(local); // [L, tp * ceil(V / tp)]
  }

  /** Normalised h [T, H] -> queries, keys and values [T, (Q + 2 KV) * D] at their positions; keys and values are in the cache then. */
  #keysAndValues(h: Tensor, index: number, layer: DecoderLayer, batch: BatchIndices): Tensor {
    const { native, dtype } = this.#context;
    const { headDim } = this.#config;
    const { keys, values, rotary } = this.#cache;
    const k = keys[index] as Tensor; // [slots, KV * D], or float8 [KV * slots, D]
    const v = values[index] as Tensor;
    const qkv = native.linear(h, layer.qkvProj, null, dtype); // [T, (Q + 2 KV) * D]
    const { positions, slots } = batch;
    native.ropeAndStoreKv(qkv, positions, slots, rotary, k, v, this.#numHeads, this.#numKvHeads, headDim);
    return qkv;
  }

  /** qkv [T, (Q + 2 KV) * D] -> what its queries get from the cache [T, Q * D]. */
  #attention(qkv: Tensor, index: number, batch: BatchIndices): Tensor {
    const { keys, values, blockSize } = this.#cache;
    const { headDim } = this.#config;
    return this.#context.native.pagedAttention(
      qkv,
      keys[index] as Tensor,
      values[index] as Tensor,
      batch.queryStart,
      batch.contextLengths,
      batch.blockTables,
      batch.maxBlocks,
      blockSize,
      this.#numHeads,
      this.#numKvHeads,
      headDim,
      1 / Math.sqrt(headDim),
    ); // [T, Q * D]
  }

  /** x += oProj(a), x [N, H], a [N, Q * D] -> x normalised for the MLP [N, H], in `into` where there is one */
  #addAttention(x: Tensor, a: Tensor, layer: DecoderLayer, into: Tensor | null): Tensor {
    const y = rowParallelLinear(this.#context, a, layer.oProj, null); // [N, H]
    const { rmsNormEps } = this.#config;
    return this.#context.native.addRmsNorm(x, y, null, layer.postAttentionLayernorm, rmsNormEps, into);
  }

  /** x += downProj(silu(gate) * up), gate and up of h, x and h [N, H]; h is x normalised by `norm` [H] then */
  #addMlp(x: Tensor, h: Tensor, layer: DecoderLayer, norm: Tensor): void {
    const { native, dtype } = this.#context;
    const gateUp = native.linear(h, layer.gateUpProj, null, dtype); // [N, 2I/tp]
    const inner = native.siluMul(gateUp); // [N, I/tp]
    const y = rowParallelLinear(this.#context, inner, layer.downProj, null); // [N, H]
    native.addRmsNorm(x, y, null, norm, this.#config.rmsNormEps, h);
  }

  #done(index: number, x: Tensor): void {
    const { progress, taps } = this.#context;
    taps?.(`llm_layer_${index}`, x);
    progress?.();
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
