import { describe, expect, it } from 'vitest';
import { MalformedStepOutput, StepTokens } from './step-output.ts';

const output = (handles: number[], counts: number[], tokenIds: number[]) => ({
  step: 3,
  handles,
  counts,
  tokenIds,
  logprobs: [],
  done: [],
  load: undefined,
});

/** What was given, a handle and its tokens each. */
function collector(): {
  readonly given: unknown[];
  readonly give: (handle: number, tokenIds: readonly number[]) => void;
} {
  const given: unknown[] = [];
  return { given, give: (handle, tokenIds) => given.push([handle, ...tokenIds]) };
}

describe('StepTokens', () => {
  it('cuts the tokens by count', () => {
    const logprob = { tokenId: 11, logprob: -1, top: [] };
    const given: unknown[] = [];
    new StepTokens({
      ...output([5, 7, 9], [2, 0, 1], [10, 11, 12]),
      logprobs: [{ handle: 9, tokens: [logprob] }],
    }).next(10, (...piece) => given.push(piece));
    expect(given).toEqual([
      [5, [10, 11], []],
      [7, [], []],
      [9, [12], [logprob]],
    ]);
  });

  it('gives as many handles at a time as asked for, each once', () => {
    const tokens = new StepTokens(output([5, 7, 9], [1, 1, 1], [10, 11, 12]));
    const { given, give } = collector();
    expect(tokens.next(2, give)).toBe(2);
    expect(given).toEqual([
      [5, 10],
      [7, 11],
    ]);
    expect(tokens.next(2, give)).toBe(1);
    expect(given.at(-1)).toEqual([9, 12]);
    expect(tokens.next(2, give)).toBe(0);
  });

  it('gives urgent handles theirs before the others, and not again', () => {
    const tokens = new StepTokens(output([5, 7, 9, 11], [1, 2, 1, 1], [10, 11, 12, 13, 14]));
    const { given, give } = collector();
    tokens.first(new Set([7, 11, 99]), give);
    expect(given).toEqual([
      [7, 11, 12],
      [11, 14],
    ]);
    expect(tokens.next(3, give)).toBe(2);
    expect(given.slice(2)).toEqual([
      [5, 10],
      [9, 13],
    ]);
  });

  it('gives a stream that is behind the tokens of several steps at once, and gives it those first', () => {
    const { given, give } = collector();
    const first = new StepTokens(output([5, 7, 9], [1, 1, 1], [10, 11, 12]));
    first.next(1, give);
    const second = new StepTokens(output([5, 7, 9], [1, 2, 1], [20, 21, 22, 23]), first);
    expect(first.next(9, give)).toBe(0);
    second.next(1, give);
    const third = new StepTokens(output([5, 9, 11], [1, 1, 1], [30, 31, 32]), second);
    third.first(new Set([11]), give);
    expect(third.next(9, give)).toBe(2);
    expect(given).toEqual([
      [5, 10],
      [7, 11, 21, 22],
      [11, 32],
      [9, 12, 23, 31],
      [5, 20, 30],
    ]);
  });

  it('leaves the step before as it is when the next one cannot be trusted', () => {
    const { given, give } = collector();
    const first = new StepTokens(output([5], [1], [10]));
    expect(() => new StepTokens(output([5], [2], [20]), first)).toThrow(MalformedStepOutput);
    first.next(9, give);
    expect(given).toEqual([[5, 10]]);
  });

  it.each([
    ['a handle without a count', output([1, 2], [1], [5])],
    ['too few tokens', output([1], [2], [5])],
    ['too many tokens', output([1], [1], [5, 6])],
  ])('refuses %s', (_, malformed) => {
    expect(() => new StepTokens(malformed)).toThrow(MalformedStepOutput);
  });
});
