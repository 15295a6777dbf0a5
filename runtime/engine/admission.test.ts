import { describe, expect, it } from 'vitest';

import { GREEDY, promptOf } from '../../test/support/submissions.ts';
import { checkSubmission, fitProblem } from './admission.ts';
import type { SubmissionRequest } from './admission.ts';
import type { SamplingParams } from './sampling-params.ts';

const INFO = { maxModelLength: 64, vocabSize: 13, blockSize: 4, kvBlocks: 15, maxSequences: 4 };
const LIMITS = { imageTokens: 5, maxImages: 2, maxStopTokenIds: 3, maxLogprobs: 20 };

function check(parts: Partial<Omit<SubmissionRequest, 'sampling'>>, sampling: Partial<SamplingParams> = {}) {
  const request = { tokenIds: promptOf(20), images: [], logprobs: undefined, ...parts };
  return checkSubmission({ ...request, sampling: { ...GREEDY, ...sampling } }, INFO, LIMITS);
}

describe('checkSubmission', () => {
  it.each<[string, Parameters<typeof check>]>([
    ['a plain request', [{}]],
    ['two pictures side by side', [{ images: [{ offset: 5, length: 5 }, { offset: 0, length: 5 }] }]], // prettier-ignore
    ['every limit reached', [{ tokenIds: promptOf(40), logprobs: 20 }, { maxTokens: 21, minTokens: 21, stopTokenIds: [0, 1, 12] }]], // prettier-ignore
    ['sampling at its bounds', [{}, { temperature: 1e-9, topP: 1, topK: 1_000_000, repetitionPenalty: 0.1 }]],
  ])('takes %s', (_, request) => {
    expect(check(...request)).toBeUndefined();
  });

  it.each<[string, Parameters<typeof check>, string, RegExp]>([
    ['no tokens', [{ tokenIds: promptOf(0) }], 'EMPTY_PROMPT', /no tokens/],
    ['more than the context', [{ tokenIds: promptOf(60) }, { maxTokens: 5 }], 'CONTEXT_LENGTH_EXCEEDED', /60 tokens and max_tokens of 5 .* 64/],
    ['more than the cache', [{ tokenIds: promptOf(60) }, { maxTokens: 2 }], 'KV_CACHE_EXCEEDED', /61 tokens take 16 KV blocks.* 15/],
    ['a negative temperature', [{}, { temperature: -0.1 }], 'INVALID_SAMPLING', /temperature is -0.1/],
    ['temperature NaN', [{}, { temperature: NaN }], 'INVALID_SAMPLING', /temperature is NaN/],
    ['temperature Infinity', [{}, { temperature: Infinity }], 'INVALID_SAMPLING', /temperature is Infinity/],
    ['top_p 0', [{}, { topP: 0 }], 'INVALID_SAMPLING', /top_p is 0/],
    ['top_p above 1', [{}, { topP: 1.01 }], 'INVALID_SAMPLING', /top_p is 1.01/],
    ['top_p NaN', [{}, { topP: NaN }], 'INVALID_SAMPLING', /top_p is NaN/],
    ['a negative top_k', [{}, { topK: -1 }], 'INVALID_SAMPLING', /top_k is -1/],
    ['no penalty', [{}, { repetitionPenalty: 0 }], 'INVALID_SAMPLING', /repetition_penalty is 0/],
    ['an endless penalty', [{}, { repetitionPenalty: Infinity }], 'INVALID_SAMPLING', /repetition_penalty/],
    ['max_tokens 0', [{}, { maxTokens: 0 }], 'INVALID_SAMPLING', /max_tokens is 0/],
    ['min_tokens above max_tokens', [{}, { minTokens: 5 }], 'INVALID_SAMPLING', /min_tokens is 5.* 4/],
    ['too many stop ids', [{}, { stopTokenIds: [1, 2, 3, 4] }], 'INVALID_SAMPLING', /4 stop token ids: at most 3/],
    ['a stop id outside', [{}, { stopTokenIds: [13] }], 'INVALID_TOKEN', /stop token id 13/],
    ['too many logprobs', [{ logprobs: 21 }], 'INVALID_SAMPLING', /logprobs is 21/],
    ['a token outside', [{ tokenIds: Uint32Array.of(1, 13) }], 'INVALID_TOKEN', /token 1 of the prompt is 13/],
    ['too many pictures', [{ images: [0, 5, 10].map((offset) => ({ offset, length: 5 })) }], 'TOO_MANY_IMAGES', /3 images: at most 2/],
    ['a picture past the end', [{ images: [{ offset: 16, length: 5 }] }], 'INVALID_IMAGE_SPAN', /at token 16 is outside the prompt of 20/],
    ['a picture of another size', [{ images: [{ offset: 0, length: 4 }] }], 'INVALID_IMAGE_SPAN', /an image takes 5/],
    ['overlapping pictures', [{ images: [{ offset: 4, length: 5 }, { offset: 0, length: 5 }] }], 'INVALID_IMAGE_SPAN', /at token 4 overlaps/],
  ])('refuses %s', (_, request, reason, message) => {
    const refusal = check(...request);
    expect(refusal).toMatchObject({ code: 'INVALID_ARGUMENT', reason });
    expect(refusal?.message).toMatch(message);
  }); // prettier-ignore
});

describe('fitProblem', () => {
  it.each<[number, string | undefined]>([
    [0, 'EMPTY_PROMPT'],
    [1, undefined],
    [60, undefined],
    [61, 'KV_CACHE_EXCEEDED'],
    [64, 'CONTEXT_LENGTH_EXCEEDED'],
  ])('of %i tokens is %s', (length, reason) => {
    expect(fitProblem({ tokenIds: promptOf(length), images: [] }, INFO)?.reason).toBe(reason);
  });
});
