import { describe, expect, it } from 'vitest';

import { resolveSampling } from './sampling-defaults.ts';
import type { RequestedSampling } from './sampling-defaults.ts';

const SAMPLES = { do_sample: true, temperature: 0.6, top_p: 0.9, top_k: 40, repetition_penalty: 1.1 };

describe('resolveSampling', () => {
  it('is greedy without a generation config', () => {
    expect(resolveSampling({}, { generationConfig: undefined, eosTokenIds: [7] }, 3000)).toEqual({
      temperature: 0,
      topP: 1,
      topK: 0,
      repetitionPenalty: 1,
      maxTokens: 512,
      minTokens: 0,
      seed: undefined,
      stopTokenIds: [7],
      ignoreEos: false,
    });
  });

  it.each<[string, RequestedSampling, Record<string, unknown>, Record<string, unknown>]>([
    ['the config', {}, SAMPLES, { temperature: 0.6, topP: 0.9, topK: 40, repetitionPenalty: 1.1 }],
    [
      'the request before the config',
      { temperature: 0, topK: 0 },
      SAMPLES,
      { temperature: 0, topK: 0, topP: 0.9 },
    ],
    ['greedy where the config does not sample', {}, { temperature: 0.6 }, { temperature: 0 }],
    ['temperature 1 where it samples without one', {}, { do_sample: true }, { temperature: 1 }],
    ['no nonsense from the config', {}, { do_sample: true, top_p: 'x', top_k: null }, { topP: 1, topK: 0 }],
    ['stop ids after the end-of-sequence ids', { stopTokenIds: [9, 7] }, {}, { stopTokenIds: [7, 2, 9] }],
    [
      'no end-of-sequence ids when ignored',
      { stopTokenIds: [9], ignoreEos: true },
      {},
      { stopTokenIds: [9], ignoreEos: true },
    ],
    ['a wrong value as it came', { temperature: -1, maxTokens: 0 }, {}, { temperature: -1, maxTokens: 0 }],
    ['the seed', { seed: 5n }, {}, { seed: 5n }],
  ])('takes %s', (_, request, generationConfig, expected) => {
    expect(resolveSampling(request, { generationConfig, eosTokenIds: [7, 2] }, 3000)).toMatchObject(expected);
  });

  it.each([
    [3000, 512],
    [100, 100],
    [0, 1],
  ])('with room for %i gives max_tokens %i', (room, maxTokens) => {
    const defaults = { generationConfig: undefined, eosTokenIds: [] };
    expect(resolveSampling({}, defaults, room).maxTokens).toBe(maxTokens);
  });
});
