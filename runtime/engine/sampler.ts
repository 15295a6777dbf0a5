// From a row of logits to a token: minimum length, repetition penalty, temperature, top-k, top-p, in the order of Hugging Face's generation
// code, then one seeded draw. Log-probabilities are of the distribution before any of these.

import type { TokenLogprob } from './engine.ts';
import type { SamplingParams } from './sampling-params.ts';
import { uniform } from './seeded-random.ts';
import { inRankOrder, ranksBefore, topIndices } from './top-k.ts';

export interface SamplerInput {
  /** [vocabSize] float32; only read. */
  readonly logits: Float32Array;
  /** Prompt and generated tokens so far. */
  readonly tokens: Int32Array;
  readonly promptLength: number;
  readonly params: SamplingParams;
  /** Used when temperature > 0. */
  readonly seed: bigint;
  /** Most likely tokens to report; undefined = no log-probabilities. */
  readonly logprobs: number | undefined;
}

export type Sampled =
  { readonly tokenId: number; readonly logprob: TokenLogprob | undefined } | { readonly error: string };

/** Chooses tokens; keeps scratch memory of one row, so one per thread. The result depends on the input alone. */
export class Sampler {
  readonly #adjusted: Float32Array;
  readonly #weights: Float64Array;
  /** seen[token] === mark: the penalty was applied to it in this call. */
  readonly #seen: Uint32Array;
  #mark = 0;

  constructor(vocabSize: number) {
    this.#adjusted = new Float32Array(vocabSize);
    this.#weights = new Float64Array(vocabSize);
    this.#seen = new Uint32Array(vocabSize);
  }

  /** Logits with NaN or +Infinity, or without any finite value, give an error, never a token. */
  sample(input: SamplerInput): Sampled {
    const { logits, params, tokens } = input;
    if (logits.length !== this.#adjusted.length) {
      throw new RangeError(
        `${String(logits.length)} logits for a vocabulary of ${String(this.#adjusted.length)}`,
      );
    }
    const error = problemOf(logits, tokens.length);
    if (error !== undefined) return { error };
    const adjusted = this.#adjust(input);
    const best = argmax(adjusted);
    if (adjusted[best] === -Infinity)
      return { error: `every token is ruled out at position ${String(tokens.length)}` };
    const tokenId = params.temperature === 0 ? best : this.#draw(adjusted, best, input);
    const logprob = input.logprobs === undefined ? undefined : logprobOf(logits, tokenId, input.logprobs);
    return { tokenId, logprob };
  }

  /** One seeded draw from softmax(adjusted / temperature) cut to top-k and top-p; `best` is the most likely token. */
  #draw(adjusted: Float32Array, best: number, { params, seed, tokens }: SamplerInput): number {
    const most = adjusted[best] ?? 0;
    // Shifted before it is divided, so that no temperature overflows. Weight of the best = 1.
    const weightOf = (id: number): number =>
      Math.exp(((adjusted[id] ?? -Infinity) - most) / params.temperature);
    const kept = keep(adjusted, params, weightOf);
    const weights = this.#weights.subarray(0, kept.length);
    let total = 0;
    for (let index = 0; index < weights.length; index += 1) {
      total += weights[index] = weightOf(kept[index] ?? best);
    }
    let left = uniform(seed, tokens.length) * total;
    let last = 0;
    for (let index = 0; index < weights.length; index += 1) {
      const weight = weights[index] ?? 0;
      if (weight === 0) continue;
      last = index;
      left -= weight;
      if (left < 0) break;
    }
    return kept[last] ?? best; // the last one too when rounding leaves a rest
  }

  /** The logits after minimum length and penalty; the input itself when neither applies. */
  #adjust({ logits, tokens, promptLength, params }: SamplerInput): Float32Array {
    const masksStops = params.stopTokenIds.length > 0 && tokens.length - promptLength < params.minTokens;
    const penalty = params.repetitionPenalty;
    if (!masksStops && penalty === 1) return logits;
    const adjusted = this.#adjusted;
    adjusted.set(logits);
    if (penalty !== 1) {
      this.#mark = (this.#mark + 1) >>> 0;
      if (this.#mark === 0) this.#seen.fill(this.#mark++);
      for (const token of tokens) {
        if (this.#seen[token] === this.#mark) continue;
        this.#seen[token] = this.#mark;
        const logit = adjusted[token] ?? 0;
        adjusted[token] = logit < 0 ? logit * penalty : logit / penalty;
      }
    }
    if (masksStops) for (const token of params.stopTokenIds) adjusted[token] = -Infinity;
    return adjusted;
  }
}

function problemOf(logits: Float32Array, position: number): string | undefined {
  let finite = false;
  for (let id = 0; id < logits.length; id += 1) {
    const logit = logits[id] ?? 0;
    if (logit < Infinity) finite ||= logit > -Infinity;
    else
      return `the model's logit of token ${String(id)} is ${String(logit)} at position ${String(position)}`;
  }
  return finite ? undefined : `the model gave no finite logit at position ${String(position)}`;
}

/** The lowest id of the largest value. */
function argmax(values: Float32Array): number {
  let best = 0;
  let most = -Infinity;
  for (let id = 0; id < values.length; id += 1) {
    const value = values[id] ?? -Infinity;
    if (value > most) {
      most = value;
      best = id;
    }
  }
  return best;
}

/** The ids that top-k and top-p leave, in an order that depends on the values alone; weightOf: proportional to the probability. */
export function keep(
  logits: Float32Array,
  { topK, topP }: Pick<SamplingParams, 'topK' | 'topP'>,
  weightOf: (id: number) => number,
): readonly number[] {
  const candidates = keepTopK(logits, topK);
  if (topP >= 1) return candidates;
  const total = candidates.reduce((sum, id) => sum + weightOf(id), 0);
  const kept: number[] = [];
  let sum = 0;
  for (const id of inRankOrder(logits, candidates)) {
    kept.push(id);
    sum += weightOf(id);
    if (sum >= topP * total) break;
  }
  return kept;
}

/** All ids when topK is 0; else those whose logit is at least the topK-th largest, so equals of the last one stay. */
function keepTopK(logits: Float32Array, topK: number): number[] {
  if (topK === 0 || topK >= logits.length) return Array.from(logits.keys());
  const top = topIndices(logits, topK);
  const last = top.at(-1) ?? 0;
  const lowest = logits[last] ?? -Infinity;
  for (let id = last + 1; id < logits.length; id += 1) {
    if (logits[id] === lowest && ranksBefore(logits, last, id)) top.push(id);
  }
  return top;
}

/** Natural-log probabilities under softmax(logits), of the token and of the `count` most likely ones. */
export function logprobOf(logits: Float32Array, tokenId: number, count: number): TokenLogprob {
  const most = logits[argmax(logits)] ?? 0;
  let sum = 0;
  for (const logit of logits) sum += Math.exp(logit - most);
  const logSum = Math.log(sum);
  const logprob = (id: number): number => (logits[id] ?? -Infinity) - most - logSum;
  return {
    tokenId,
    logprob: logprob(tokenId),
    top: topIndices(logits, count).map((id) => ({ tokenId: id, logprob: logprob(id) })),
  };
}
