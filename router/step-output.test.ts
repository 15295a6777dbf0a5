import { describe, expect, it } from 'vitest';
import { MalformedStepOutput, tokensByHandle } from './step-output.ts';

const output = (handles: number[], counts: number[], tokenIds: number[]) => ({
  step: 3,
  handles,
  counts,
  tokenIds,
  logprobs: [],
  done: [],
  load: undefined,
});

describe('tokensByHandle', () => {
  it('cuts the tokens by count', () => {
    const logprob = { tokenId: 11, logprob: -1, top: [] };
    const pieces = tokensByHandle({
      ...output([5, 7, 9], [2, 0, 1], [10, 11, 12]),
      logprobs: [{ handle: 9, tokens: [logprob] }],
    });
    expect(pieces).toEqual([
      { handle: 5, tokenIds: [10, 11], logprobs: [] },
      { handle: 7, tokenIds: [], logprobs: [] },
      { handle: 9, tokenIds: [12], logprobs: [logprob] },
    ]);
  });

  it.each([
    ['a handle without a count', output([1, 2], [1], [5])],
    ['too few tokens', output([1], [2], [5])],
    ['too many tokens', output([1], [1], [5, 6])],
  ])('refuses %s', (_, malformed) => {
    expect(() => tokensByHandle(malformed)).toThrow(MalformedStepOutput);
  });
});
