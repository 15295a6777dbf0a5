import { describe, expect, it, vi } from 'vitest';
import { MalformedStepOutput, eachHandle } from './step-output.ts';

const output = (handles: number[], counts: number[], tokenIds: number[]) => ({
  step: 3,
  handles,
  counts,
  tokenIds,
  logprobs: [],
  done: [],
  load: undefined,
});

describe('eachHandle', () => {
  it('cuts the tokens by count', () => {
    const logprob = { tokenId: 11, logprob: -1, top: [] };
    const given: unknown[] = [];
    eachHandle(
      { ...output([5, 7, 9], [2, 0, 1], [10, 11, 12]), logprobs: [{ handle: 9, tokens: [logprob] }] },
      (...piece) => given.push(piece),
    );
    expect(given).toEqual([
      [5, [10, 11], []],
      [7, [], []],
      [9, [12], [logprob]],
    ]);
  });

  it.each([
    ['a handle without a count', output([1, 2], [1], [5])],
    ['too few tokens', output([1], [2], [5])],
    ['too many tokens', output([1], [1], [5, 6])],
  ])('refuses %s', (_, malformed) => {
    const give = vi.fn();
    expect(() => eachHandle(malformed, give)).toThrow(MalformedStepOutput);
    expect(give).not.toHaveBeenCalled();
  });
});
