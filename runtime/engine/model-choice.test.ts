import { describe, expect, it } from 'vitest';

import { GREEDY } from '../../test/support/submissions.ts';
import { isChosenByModel, writeChoice } from './model-choice.ts';
import type { SamplingParams } from './sampling-params.ts';
import { uniform } from './seeded-random.ts';
import { StepInputs } from './step-inputs.ts';

type Parts = Partial<SamplingParams> & { readonly logprobs?: number };

const sequenceOf = ({ logprobs, ...sampling }: Parts) => ({
  sampling: { ...GREEDY, ...sampling },
  logprobs,
  seed: 9n,
  promptLength: 10,
});

const DRAWN = { temperature: 0.7, topK: 40, topP: 0.9 };

describe('the model chooses by itself', () => {
  it.each<[string, Parts, boolean, numGenerated?: number]>([
    ['the likeliest token', {}, true],
    ['a drawn token', DRAWN, true],
    ['beside a top-k and top-p that do not matter', { topK: 3, topP: 0.5 }, true],
    ['with stop tokens', { stopTokenIds: [2] }, true],
    ['where stop tokens are allowed already', { stopTokenIds: [2], minTokens: 3 }, true, 3],
    ['where there is none to keep away', { minTokens: 3 }, true, 2],
    ['not where stop tokens are kept away', { stopTokenIds: [2], minTokens: 3 }, false, 2],
    ['not one drawn where they are', { ...DRAWN, stopTokenIds: [2], minTokens: 1 }, false],
    ['not with a penalty', { repetitionPenalty: 1.1 }, false],
    ['not one drawn with a penalty', { ...DRAWN, repetitionPenalty: 0.9 }, false],
    ['not with log-probabilities', { logprobs: 0 }, false],
    ['not one drawn with log-probabilities', { ...DRAWN, logprobs: 5 }, false],
    ['at the least temperature', { temperature: 1e-30 }, true],
    ['not below it', { temperature: 1e-31 }, false],
    ['not at more than float32 can divide by', { temperature: 1e31 }, false],
  ])('%s', (_, parts, expected, numGenerated = 0) => {
    const sequence = sequenceOf(parts);
    expect(isChosenByModel(sequence, numGenerated)).toBe(expected);
    const { draws } = new StepInputs(0, 3);
    expect(writeChoice(draws, 1, sequence, 10 + numGenerated)).toBe(expected);
    const temperature = expected ? sequence.sampling.temperature : 0;
    expect(draws[4]).toBe(temperature);
    expect([...draws.subarray(0, 4), ...draws.subarray(8)]).toEqual(Array(8).fill(0));
  });

  it('with the share of the token’s position', () => {
    const { draws } = new StepInputs(0, 1);
    writeChoice(draws, 0, sequenceOf(DRAWN), 17);
    expect([...draws]).toEqual([0.7, 40, 0.9, uniform(9n, 17)]);
  });
});
