import { describe, expect, it } from 'vitest';

import { GREEDY } from '../../test/support/submissions.ts';
import { Sampler } from './sampler.ts';
import type { SamplerInput } from './sampler.ts';
import type { SamplingParams } from './sampling-params.ts';

type Parts = Partial<Omit<SamplerInput, 'params' | 'logits' | 'tokens'>> & {
  readonly tokens?: readonly number[];
  readonly params?: Partial<SamplingParams>;
};

function inputOf(logits: readonly number[], { tokens = [0], params, ...rest }: Parts = {}): SamplerInput {
  return {
    logits: Float32Array.from(logits),
    tokens: Int32Array.from(tokens),
    promptLength: 1,
    seed: 0n,
    logprobs: undefined,
    ...rest,
    params: { ...GREEDY, ...params },
  };
}

function tokenOf(logits: readonly number[], parts: Parts = {}): number {
  const sampled = new Sampler(logits.length).sample(inputOf(logits, parts));
  if ('error' in sampled) throw new Error(sampled.error);
  return sampled.tokenId;
}

/** Counts of each token over many positions of one seed. */
function draws(logits: readonly number[], params: Partial<SamplingParams>, count: number): number[] {
  const sampler = new Sampler(logits.length);
  const counts = logits.map(() => 0);
  const tokens = new Int32Array(count + 1);
  for (let position = 1; position <= count; position += 1) {
    const input = { ...inputOf(logits, { params, seed: 42n }), tokens: tokens.subarray(0, position) };
    const sampled = sampler.sample(input);
    if ('error' in sampled) throw new Error(sampled.error);
    counts[sampled.tokenId] = (counts[sampled.tokenId] ?? 0) + 1;
  }
  return counts;
}

/** Against softmax(logits / temperature) renormalised over `kept`. */
function chiSquare(
  counts: readonly number[],
  logits: readonly number[],
  temperature: number,
  kept: number[],
): number {
  const weights = logits.map((logit, id) => (kept.includes(id) ? Math.exp(logit / temperature) : 0));
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  const drawn = counts.reduce((sum, count) => sum + count, 0);
  return kept.reduce((sum, id) => {
    const expected = (drawn * (weights[id] ?? 0)) / total;
    return sum + ((counts[id] ?? 0) - expected) ** 2 / expected;
  }, 0);
}

describe('greedy', () => {
  it.each<[string, readonly number[], Parts, number]>([
    ['the most likely', [1, 3, 2], {}, 1],
    ['the lowest id of equals', [1, 3, 3, 3], {}, 1],
    ['what is left above -Infinity', [-Infinity, -Infinity, -5], {}, 2],
    ['penalised positives divided', [3, 2, 1], { params: { repetitionPenalty: 2 } }, 1],
    ['penalised negatives multiplied', [-1, -1.5, -9], { params: { repetitionPenalty: 2 } }, 1],
    [
      'the penalty once for a repeated token',
      [9, 4, 1],
      { tokens: [0, 0, 0], params: { repetitionPenalty: 2 } },
      0,
    ],
    ['a penalty on prompt and answer', [9, 8, 5], { tokens: [0, 1], params: { repetitionPenalty: 2 } }, 2],
    ['a reward below 1', [2, 3, 1], { params: { repetitionPenalty: 0.5 } }, 0],
    ['no stop token before min_tokens', [1, 9, 3], { params: { stopTokenIds: [1], minTokens: 1 } }, 2],
    [
      'a stop token from min_tokens on',
      [1, 9, 3],
      { tokens: [0, 2], params: { stopTokenIds: [1], minTokens: 1 } },
      1,
    ],
  ])('takes %s', (_, logits, parts, token) => {
    expect(tokenOf(logits, parts)).toBe(token);
  });

  it('does not write to the logits', () => {
    const input = inputOf([3, 2, 1], { params: { repetitionPenalty: 2, stopTokenIds: [1], minTokens: 5 } });
    new Sampler(3).sample(input);
    expect(Array.from(input.logits)).toEqual([3, 2, 1]);
  });
});

describe('bad logits', () => {
  it.each<[string, readonly number[], Partial<SamplingParams>, RegExp]>([
    ['NaN', [1, NaN, 2], {}, /token 1 is NaN at position 1/],
    ['NaN when drawn', [1, 2, NaN], { temperature: 1, topP: 0.5 }, /token 2 is NaN/],
    ['Infinity', [Infinity, 0, 0], { temperature: 1 }, /token 0 is Infinity/],
    ['nothing finite', [-Infinity, -Infinity], {}, /no finite logit/],
    [
      'nothing but stop tokens',
      [1, -Infinity],
      { stopTokenIds: [0], minTokens: 3 },
      /every token is ruled out/,
    ],
  ])('with %s give an error that says so', (_, logits, params, message) => {
    const sampled = new Sampler(logits.length).sample(inputOf(logits, { params }));
    expect(sampled).toMatchObject({ error: expect.stringMatching(message) as string });
  });

  it('of another vocabulary are a bug of the caller', () => {
    expect(() => new Sampler(4).sample(inputOf([1, 2]))).toThrow(/2 logits for a vocabulary of 4/);
  });
});

describe('drawn tokens', () => {
  const LOGITS = [1, 2, 0, 1.5, -1];

  // 0.999 quantiles of chi-square for n - 1 degrees of freedom.
  const LIMIT: Record<number, number> = { 5: 18.47, 3: 13.82, 2: 10.83 };

  it.each<[string, Partial<SamplingParams>, number[]]>([
    ['temperature 1', { temperature: 1 }, [0, 1, 2, 3, 4]],
    ['a high temperature', { temperature: 3 }, [0, 1, 2, 3, 4]],
    ['a low temperature', { temperature: 0.5 }, [0, 1, 2, 3, 4]],
    ['top-k', { temperature: 1, topK: 3 }, [0, 1, 3]],
    ['top-p', { temperature: 1, topP: 0.7 }, [1, 3]],
    ['top-p of what top-k leaves', { temperature: 1, topK: 3, topP: 0.8 }, [1, 3]],
  ])('follow the distribution with %s', (_, params, kept) => {
    const counts = draws(LOGITS, params, 20_000);
    expect(counts.flatMap((count, id) => (count > 0 ? [id] : []))).toEqual(kept);
    expect(chiSquare(counts, LOGITS, params.temperature ?? 1, kept)).toBeLessThan(LIMIT[kept.length] ?? 0);
  });

  it('are the greedy one with top-k 1, a tiny top-p, or next to no temperature', () => {
    for (const params of [{ topK: 1 }, { topP: 1e-9 }, { temperature: 1e-40 }]) {
      expect(draws(LOGITS, { temperature: 1, ...params }, 50)).toEqual([0, 50, 0, 0, 0]);
    }
  });

  it('stand a top-k beyond the vocabulary', () => {
    expect(tokenOf([1, 2], { params: { temperature: 1e-9, topK: 99 } })).toBe(1);
  });

  it('depend on seed and position alone', () => {
    const sampler = new Sampler(LOGITS.length);
    const answer = (seed: bigint): number[] =>
      Array.from({ length: 64 }, (_, position) => {
        const tokens = Array.from({ length: position + 1 }, () => 0);
        const sampled = sampler.sample(inputOf(LOGITS, { seed, tokens, params: { temperature: 1 } }));
        return 'error' in sampled ? -1 : sampled.tokenId;
      });
    const first = answer(1n);
    sampler.sample(inputOf([5, 4, 3, 2, 1], { params: { temperature: 2, repetitionPenalty: 3 } }));
    expect(answer(1n)).toEqual(first);
    expect(answer(2n)).not.toEqual(first);
  });
});

describe('log-probabilities', () => {
  const logprobOf = (logits: readonly number[], logprobs: number) => {
    const sampled = new Sampler(logits.length).sample(inputOf(logits, { logprobs }));
    if ('error' in sampled || sampled.logprob === undefined) throw new Error('no log-probabilities');
    return sampled.logprob;
  };

  it('are of the distribution before penalty, temperature and cuts', () => {
    const logits = [Math.log(6), Math.log(3), Math.log(1)];
    const params = { temperature: 5, topK: 1, repetitionPenalty: 4, stopTokenIds: [0], minTokens: 9 };
    const sampled = new Sampler(3).sample(inputOf(logits, { params, logprobs: 2 }));
    if ('error' in sampled || sampled.logprob === undefined) throw new Error('no log-probabilities');
    expect(sampled.tokenId).toBe(1);
    expect(sampled.logprob.logprob).toBeCloseTo(Math.log(0.3), 6);
    expect(sampled.logprob.top.map(({ tokenId }) => tokenId)).toEqual([0, 1]);
    expect(sampled.logprob.top[0]?.logprob).toBeCloseTo(Math.log(0.6), 6);
  });

  it('stand large logits, equals come by id, 0 asks for none of the others', () => {
    const { logprob, top } = logprobOf([3e38, 3e38, -3e38], 2);
    expect(logprob).toBeCloseTo(Math.log(0.5), 6);
    expect(top.map(({ tokenId }) => tokenId)).toEqual([0, 1]);
    expect(logprobOf([1, 2], 0).top).toEqual([]);
  });

  it('are of no more tokens than there are', () => {
    expect(logprobOf([1, 2], 9).top.map(({ tokenId }) => tokenId)).toEqual([1, 0]);
  });
});
