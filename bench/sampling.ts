// Choosing one token from a row of logits as long as the model's vocabulary.
import { Sampler } from '../runtime/engine/sampler.ts';
import { native } from '../runtime/native/index.ts';
import type { Row } from './results.ts';

const VOCABULARY = 64_000;
const ROUNDS = 9;
const TOKENS = 100;

/** Medians of the calling thread. */
export function benchSampling(): Row[] {
  const sampler = new Sampler(VOCABULARY, native());
  const logits = Float32Array.from({ length: VOCABULARY }, (_, id) => 6 * Math.sin(id * id));
  const tokens = new Int32Array(TOKENS);
  return (
    [
      ['temperature 1', { temperature: 1, topK: 0, topP: 1 }, undefined],
      ['temperature 1, top-k 50', { temperature: 1, topK: 50, topP: 1 }, undefined],
      ['temperature 1, top-p 0.9', { temperature: 1, topK: 0, topP: 0.9 }, undefined],
      ['temperature 10, top-p 0.9', { temperature: 10, topK: 0, topP: 0.9 }, undefined],
      ['greedy, 20 log-probabilities', { temperature: 0, topK: 0, topP: 1 }, 20],
    ] as const
  ).map(([name, params, logprobs]) => {
    const input = {
      logits,
      best: logits.indexOf(logits.reduce((most, logit) => Math.max(most, logit))),
      promptLength: 0,
      params: {
        ...params,
        repetitionPenalty: 1,
        maxTokens: TOKENS,
        minTokens: 0,
        stopTokenIds: [],
        ignoreEos: true,
        seed: undefined,
      },
      logprobs,
    };
    const times = Array.from({ length: ROUNDS }, (_, round) => {
      const begin = performance.now();
      for (let length = 1; length <= TOKENS; length++)
        sampler.sample({ ...input, tokens: tokens.subarray(0, length), seed: BigInt(round) });
      return (1000 * (performance.now() - begin)) / TOKENS;
    });
    return {
      metric: 'a token from its logits',
      shape: `vocabulary of ${VOCABULARY}, ${name}`,
      unit: 'µs',
      value: times.toSorted((a, b) => a - b)[ROUNDS >> 1] as number,
    };
  });
}
