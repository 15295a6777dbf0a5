import { expect, it } from 'vitest';
import { StepInputs } from '../engine/step-inputs.ts';
import { EMPTY_BATCH, promptBatch, tryingOrder } from './warm-up-batches.ts';

it('a prompt fills the first blocks in order and wants its last logits', () => {
  expect(promptBatch(5, 2)).toEqual({
    ...EMPTY_BATCH,
    numTokens: 5,
    numSequences: 1,
    inputs: new StepInputs(5, 1),
    positions: Int32Array.of(0, 1, 2, 3, 4),
    slots: Int32Array.of(0, 1, 2, 3, 4),
    queryStart: Int32Array.of(0, 5),
    contextLengths: Int32Array.of(5),
    blockTables: Int32Array.of(0, 1, 2),
    maxBlocks: 3,
    logitRows: Int32Array.of(4),
  });
});

it.each([
  [[], []],
  [[7], [7]],
  [
    [16, 32, 48, 64, 128, 192, 200],
    [200, 64, 48, 16, 192, 128, 32],
  ],
  [
    [16, 32, 64, 128, 256],
    [256, 128, 64, 32, 16],
  ],
])('tries the rows %j in the order %j', (rows, order) => {
  expect(tryingOrder(rows)).toEqual(order);
});
