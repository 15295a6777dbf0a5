// From a row of logits to a token: minimum length, repetition penalty, temperature, top-k, top-p, in the order of Hugging Face's generation
// code, then one seeded draw. Log-probabilities are of the distribution before any of these.

import type { TokenLogprob } from './engine.ts';
import type { SamplingParams } from './sampling-params.ts';
import { uniform } from './seeded-random.ts';
import { inRankOrder, topIndices } from './top-k.ts';

export interface SamplerInput {
  /** [vocabSize] float32; only read. */
  readonly logits: Float32Array;
  /** The lowest id of the largest logit when it is known already, all logits being numbers; looked for otherwise. */
  readonly best?: number | undefined;
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
  readonly #weigh: Weigh;
  #mark = 0;

  /** weigh: a faster one than the plain loop. */
  constructor(vocabSize: number, weigh: Weigh = weighPlainly) {
    this.#weigh = weigh;
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
    const best = input.best ?? argmax(logits);
    if (best === undefined) return { error: problemOf(logits, tokens.length) };
    const adjusted = this.#adjust(input);
    const chosen = adjusted === logits ? best : argmax(adjusted);
    if (chosen === undefined)
      return { error: `every token is ruled out at position ${String(tokens.length)}` };
    const tokenId = params.temperature === 0 ? chosen : this.#draw(adjusted, chosen, input);
    const logprob =
      input.logprobs === undefined ? undefined : logprobOf(logits, best, tokenId, input.logprobs);
    return { tokenId, logprob };
  }

  /** One seeded draw from softmax(adjusted / temperature) cut to top-k, then top-p; `best` is the most likely token. */
  #draw(adjusted: Float32Array, best: number, { params, seed, tokens }: SamplerInput): number {
    const { temperature, topK, topP } = params;
    const weights = this.#weights; // by id, those of cut ids stale
    let ids = topK > 0 && topK < adjusted.length ? keepTopK(adjusted, topK) : undefined; // undefined = all
    const most = adjusted[best] ?? 0;
    let total =
      ids === undefined
        ? this.#weigh(adjusted, most, temperature, weights)
        : weighSome(ids, adjusted, most, temperature, weights);
    if (topP < 1) {
      ids = keepTopP(adjusted, weights, ids, topP * total);
      total = ids.reduce((sum, id) => sum + (weights[id] ?? 0), 0);
    }
    let left = uniform(seed, tokens.length) * total;
    let last = best;
    const count = ids === undefined ? adjusted.length : ids.length;
    for (let index = 0; index < count; index += 1) {
      const id = ids === undefined ? index : (ids[index] ?? best);
      const weight = weights[id] ?? 0;
      if (weight === 0) continue;
      last = id;
      left -= weight;
      if (left < 0) break;
    }
    return last; // the last one too when rounding leaves a rest
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

/** The lowest id of the largest value; undefined when a value is NaN or Infinity, or all are -Infinity. One pass: this is all that greedy takes. */
function argmax(values: Float32Array): number | undefined {
  let best = -1;
  let most = -Infinity;
  for (let id = 0; id < values.length; id += 1) {
    const value = values[id] ?? 0;
    if (value > most) {
      most = value;
      best = id;
    } else if (!(value <= most)) return undefined; // NaN compares to nothing
  }
  return best === -1 || most === Infinity ? undefined : best;
}

/** Says why a row has no argmax. */
function problemOf(logits: Float32Array, position: number): string {
  const at = logits.findIndex((logit) => !(logit < Infinity));
  if (at === -1) return `the model gave no finite logit at position ${String(position)}`;
  return `the model's logit of token ${String(at)} is ${String(logits[at])} at position ${String(position)}`;
}

/** weights[id] = exp((logits[id] - most) / temperature); returns their sum. */
export type Weigh = (
  logits: Float32Array,
  most: number,
  temperature: number,
  weights: Float64Array,
) => number;

/** Shifted before it is divided, so that no temperature overflows. */
export const weighPlainly: Weigh = (logits, most, temperature, weights) => {
  let total = 0;
  for (let id = 0; id < logits.length; id += 1) {
    const weight = Math.exp(((logits[id] ?? -Infinity) - most) / temperature);
    weights[id] = weight;
    total += weight;
  }
  return total;
};

/** The same for some ids, the other weights left as they are. */
function weighSome(
  ids: readonly number[],
  logits: Float32Array,
  most: number,
  temperature: number,
  weights: Float64Array,
): number {
  let total = 0;
  for (const id of ids) {
    const weight = Math.exp(((logits[id] ?? -Infinity) - most) / temperature);
    weights[id] = weight;
    total += weight;
  }
  return total;
}

/** The ids whose logit is at least the topK-th largest: equals of the last one stay. */
export function keepTopK(logits: Float32Array, topK: number): readonly number[] {
  const top = topIndices(logits, topK);
  const last = top.at(-1) ?? 0;
  const lowest = logits[last];
  for (let id = last + 1; id < logits.length; id += 1) {
    if (logits[id] === lowest) top.push(id);
  }
  return top;
}

/** The fewest most likely of the ids (all when undefined) whose weights sum to at least `mass`, best first. */
export function keepTopP(
  logits: Float32Array,
  weights: Float64Array,
  ids: readonly number[] | undefined,
  mass: number,
): readonly number[] {
  const candidates = ids ?? likely(weights, mass);
  const kept: number[] = [];
  let sum = 0;
  for (const id of inRankOrder(logits, candidates)) {
    kept.push(id);
    sum += weights[id] ?? 0;
    if (sum >= mass) break;
  }
  return kept;
}

/** All ids but those that weigh so little that even together they are not needed to reach `mass`: few are left to put in order. */
function likely(weights: Float64Array, mass: number): number[] {
  let total = 0;
  for (let id = 0; id < weights.length; id += 1) total += weights[id] ?? 0;
  // Half of the spare mass is left to rounding.
  const least = (total - mass) / (2 * weights.length);
  const ids: number[] = [];
  for (let id = 0; id < weights.length; id += 1) if ((weights[id] ?? 0) >= least) ids.push(id);
  return ids;
}

/** Natural-log probabilities under softmax(logits), of the token and of the `count` most likely ones; best: the most likely token. */
export function logprobOf(logits: Float32Array, best: number, tokenId: number, count: number): TokenLogprob {
  const most = logits[best] ?? 0;
  let sum = 0;
  for (let id = 0; id < logits.length; id += 1) sum += Math.exp((logits[id] ?? -Infinity) - most);
  const logSum = Math.log(sum);
  const logprob = (id: number): number => (logits[id] ?? -Infinity) - most - logSum;
  return {
    tokenId,
    logprob: logprob(tokenId),
    top: topIndices(logits, count).map((id) => ({ tokenId: id, logprob: logprob(id) })),
  };
}
