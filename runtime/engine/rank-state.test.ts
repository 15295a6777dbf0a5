import { describe, expect, it } from 'vitest';

import { PlanMismatch, RankState, planHash } from './rank-state.ts';
import type { ScheduledSequence, StepPlan } from './step-plan.ts';

function planOf(step: number, parts: Partial<StepPlan> = {}): StepPlan {
  return {
    step,
    sequences: [],
    finished: [],
    preempted: [],
    freeImages: [],
    encodeImages: [],
    imageRows: [],
    ...parts,
  };
}

function scheduled(
  handle: number,
  numComputed: number,
  numTokens: number,
  newBlocks: readonly number[],
  wantsLogits = true,
): ScheduledSequence {
  return { handle, numComputed, numTokens, newBlocks, wantsLogits };
}

const OPTIONS = { blockSize: 4, kvBlocks: 8 };

describe('RankState.apply', () => {
  it('derives positions, slots, block tables and logit rows', () => {
    const state = new RankState(OPTIONS);
    state.apply(planOf(0, { sequences: [scheduled(7, 0, 6, [5, 2]), scheduled(9, 0, 2, [1], false)] }));
    const batch = state.apply(planOf(1, { sequences: [scheduled(9, 2, 3, [0]), scheduled(7, 6, 1, [])] }));
    expect(batch).toMatchObject({ step: 1, numTokens: 4, numSequences: 2, maxBlocks: 2 });
    expect(Array.from(batch.positions)).toEqual([2, 3, 4, 6]);
    expect(Array.from(batch.slots)).toEqual([1 * 4 + 2, 1 * 4 + 3, 0, 2 * 4 + 2]);
    expect(Array.from(batch.queryStart)).toEqual([0, 3, 4]);
    expect(Array.from(batch.contextLengths)).toEqual([5, 7]);
    expect(Array.from(batch.blockTables)).toEqual([1, 0, 5, 2]);
    expect(Array.from(batch.logitRows)).toEqual([2, 3]);
    expect(Array.from(batch.inputs.ids)).toEqual([0, 0, 0, 0]);
  });

  it('pads shorter block tables with 0 and leaves out sequences that want no logits', () => {
    const state = new RankState(OPTIONS);
    const batch = state.apply(
      planOf(0, { sequences: [scheduled(1, 0, 3, [6], false), scheduled(2, 0, 5, [3, 4])] }),
    );
    expect(Array.from(batch.blockTables)).toEqual([6, 0, 3, 4]);
    expect(Array.from(batch.logitRows)).toEqual([7]);
  });

  it('forgets finished sequences and starts preempted ones over', () => {
    const state = new RankState(OPTIONS);
    state.apply(planOf(0, { sequences: [scheduled(1, 0, 4, [0]), scheduled(2, 0, 4, [1])] }));
    const batch = state.apply(
      planOf(1, {
        finished: [1],
        preempted: [2],
        sequences: [scheduled(2, 0, 4, [0]), scheduled(1, 0, 1, [1])],
      }),
    );
    expect(Array.from(batch.blockTables)).toEqual([0, 1]);
    expect(state.numSequences).toBe(2);
    state.apply(planOf(2, { finished: [1, 2] }));
    expect(state.numSequences).toBe(0);
  });

  it('starts sequences behind blocks that others have filled, preempted ones too', () => {
    const state = new RankState(OPTIONS);
    state.apply(planOf(0, { sequences: [scheduled(1, 0, 5, [3, 2])] }));
    const batch = state.apply(
      planOf(1, { preempted: [1], sequences: [scheduled(2, 4, 2, [3, 5]), scheduled(1, 4, 1, [3, 6])] }),
    );
    expect(Array.from(batch.positions)).toEqual([4, 5, 4]);
    expect(Array.from(batch.slots)).toEqual([20, 21, 24]);
    expect(Array.from(batch.contextLengths)).toEqual([6, 5]);
    expect(Array.from(batch.blockTables)).toEqual([3, 5, 3, 6]);
    // Given anew, a block has to be filled again before anyone starts behind it.
    state.apply(planOf(2, { finished: [1, 2], sequences: [scheduled(3, 0, 1, [3])] }));
    expect(() => state.apply(planOf(3, { sequences: [scheduled(4, 4, 1, [3, 5])] }))).toThrow(
      /3 is not filled/,
    );
  });

  const row = { image: 0, sourceRow: 0, targetRow: 0, count: 2 };
  it.each<[string, Partial<StepPlan>, RegExp]>([
    [
      'a start within a block',
      { sequences: [scheduled(5, 3, 1, [0])] },
      /5 starts at token 3: .* whole blocks/,
    ],
    [
      'a start without blocks',
      { sequences: [scheduled(5, 8, 1, [0])] },
      /5 starts at token 8: .* whole blocks/,
    ],
    [
      'a start behind a block that nobody filled',
      { sequences: [scheduled(5, 4, 1, [1, 2])] },
      /1 is not filled/,
    ],
    ['a computed count that differs', { sequences: [scheduled(1, 3, 1, [])] }, /starts at token 3.* far: 4/],
    ['too few blocks', { sequences: [scheduled(1, 4, 1, [])] }, /fewer blocks/],
    ['a block outside the cache', { sequences: [scheduled(1, 4, 1, [8])] }, /block 8 of 8/],
    ['no tokens', { sequences: [scheduled(1, 4, 0, [])] }, /has 0 tokens/],
    ['finishing an unknown sequence', { finished: [5] }, /finishes unknown sequence 5/],
    ['preempting an unknown sequence', { preempted: [5] }, /preempts unknown sequence 5/],
    ['freeing an unknown image', { freeImages: [3] }, /frees unknown image 3/],
    ['encoding an image twice', { encodeImages: [0] }, /encodes image 0 twice/],
    ['rows of an unknown image', { imageRows: [{ ...row, image: 4 }] }, /unknown image 4/],
    [
      'rows outside the step',
      { sequences: [scheduled(1, 4, 1, [1])], imageRows: [row] },
      /outside the step's 1/,
    ],
  ])('refuses %s', (_, parts, message) => {
    const state = new RankState(OPTIONS);
    state.apply(planOf(0, { sequences: [scheduled(1, 0, 4, [0])], encodeImages: [0] }));
    const apply = (): unknown => state.apply(planOf(1, parts));
    expect(apply).toThrow(PlanMismatch);
    expect(() => new RankState(OPTIONS).apply(planOf(0, { finished: [1] }))).toThrow(/step plan 0/);
    const again = new RankState(OPTIONS);
    again.apply(planOf(0, { sequences: [scheduled(1, 0, 4, [0])], encodeImages: [0] }));
    expect(() => again.apply(planOf(1, parts))).toThrow(message);
  });
});

describe('plan hash', () => {
  const first = planOf(0, {
    sequences: [scheduled(1, 0, 4, [0]), scheduled(2, 0, 2, [1])],
    encodeImages: [0],
  });

  it('is equal on ranks that applied the same plans and runs over all of them', () => {
    const [a, b] = [new RankState(OPTIONS), new RankState(OPTIONS)];
    a.apply(first);
    b.apply(first);
    expect(a.planHash).toBe(b.planHash);
    expect(a.planHash).not.toBe(0);
    const before = a.planHash;
    const next = planOf(1, { sequences: [scheduled(2, 2, 1, [])] });
    a.apply(next);
    expect(a.planHash).not.toBe(before);
    expect(Number.isInteger(a.planHash) && a.planHash >= 0 && a.planHash < 2 ** 32).toBe(true);
  });

  it.each<[string, Partial<StepPlan>]>([
    ['the step', { step: 5 }],
    ['a block', { sequences: [scheduled(1, 0, 4, [2]), scheduled(2, 0, 2, [1])] }],
    ['the order', { sequences: [scheduled(2, 0, 2, [1]), scheduled(1, 0, 4, [0])] }],
    ['a surplus block', { sequences: [scheduled(1, 0, 4, [0]), scheduled(2, 0, 2, [1, 3])] }],
    ['wanted logits', { sequences: [scheduled(1, 0, 4, [0], false), scheduled(2, 0, 2, [1])] }],
    ['an encoded image', { encodeImages: [1] }],
    ['image rows', { imageRows: [{ image: 0, sourceRow: 0, targetRow: 1, count: 2 }] }],
  ])('shows a difference in %s', (_, parts) => {
    const [a, b] = [new RankState(OPTIONS), new RankState(OPTIONS)];
    a.apply(first);
    b.apply({ ...first, ...parts });
    expect(a.planHash).not.toBe(b.planHash);
  });

  it('shows an earlier difference in every later step', () => {
    const [a, b] = [new RankState(OPTIONS), new RankState(OPTIONS)];
    a.apply(first);
    b.apply({ ...first, encodeImages: [3] });
    const next = planOf(1, { sequences: [scheduled(2, 2, 1, [])] });
    const [batchA, batchB] = [a.apply(next), b.apply(next)];
    expect(planHash(batchA)).toBe(planHash(batchB));
    expect(a.planHash).not.toBe(b.planHash);
  });
});
