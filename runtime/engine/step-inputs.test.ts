import { expect, it } from 'vitest';

import { ReusedStepInputs, StepInputs } from './step-inputs.ts';

it('lie in one piece of memory, the draws first', () => {
  const { words, ids, draws, drawWords } = new StepInputs(3, 2);
  ids.set([7, 8, 9]);
  draws[7] = 1;
  expect([words.length, drawWords.length]).toEqual([19, 16]);
  expect([...words.subarray(14)]).toEqual([0, 0x3ff00000, 7, 8, 9]);
  expect([...drawWords.subarray(14)]).toEqual([0, 0x3ff00000]);
});

it('are the same arrays while a step has the size of the last, in the same memory while it holds them', () => {
  const reused = new ReusedStepInputs();
  const first = reused.of(4, 1);
  expect(reused.of(4, 1)).toBe(first);
  const smaller = reused.of(3, 0);
  expect([smaller.ids.length, smaller.draws.length, smaller.words.length]).toEqual([3, 0, 3]);
  expect(smaller.words.buffer).toBe(first.words.buffer);
  const larger = reused.of(1000, 100);
  expect([larger.ids.length, larger.draws.length, larger.words.length]).toEqual([1000, 400, 1800]);
});
