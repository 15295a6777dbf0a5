// From a row of logits to a token: minimum length, repetition penalty, temperature, top-k, top-p, in the order of Hugging Face's generation
// code, then one seeded draw. Log-probabilities are of the distribution before any of these.

import { PLAIN_OPERATIONS } from './draw.ts';
import type { SamplingOperations } from './draw.ts';
import type { TokenLogprob } from './engine.ts';
import { ReusedInt32Array } from './reused-arrays.ts';
import type { SamplingParams } from './sampling-params.ts';
import { uniform } from './seeded-random.ts';

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
  /** seen[token] === mark: the penalty was applied to it in this call. */
  readonly #seen: Uint32Array;
  readonly #operations: SamplingOperations;
  readonly #topIds = new ReusedInt32Array();
  #mark = 0;

  constructor(vocabSize: number, operations: SamplingOperations = PLAIN_OPERATIONS) {
    this.#operations = operations;
    this.#adjusted = new Float32Array(vocabSize);
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
      input.logprobs === undefined ? undefined : this.#logprobOf(logits, best, tokenId, input.logprobs);
    return { tokenId, logprob };
  }

  /** One seeded draw from softmax(adjusted / temperature) cut to top-k, then top-p; `best` is the most likely token. */
  #draw(adjusted: Float32Array, best: number, { params, seed, tokens }: SamplerInput): number {
    const { temperature, topK, topP } = params;
    const share = uniform(seed, tokens.length);
    return this.#operations.drawToken(adjusted, adjusted[best] ?? 0, temperature, topK, topP, share);
  }

  /** Natural-log probabilities under softmax(logits), of the token and of the `count` most likely ones; best: the most likely token. */
  #logprobOf(logits: Float32Array, best: number, tokenId: number, count: number): TokenLogprob {
    const most = logits[best] ?? 0;
    const logSum = this.#operations.logSumExp(logits, most);
    const logprob = (id: number): number => (logits[id] ?? -Infinity) - most - logSum;
    const ids = this.#topIds.of(Math.min(count, logits.length));
    this.#operations.topTokens(logits, ids);
    const top = Array.from(ids, (id) => ({ tokenId: id, logprob: logprob(id) }));
    return { tokenId, logprob: logprob(tokenId), top };
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
