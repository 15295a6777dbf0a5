import { expect, it } from 'vitest';
import { StepInputs } from '../engine/step-inputs.ts';
import { EMPTY_BATCH, promptBatch } from './warm-up-batches.ts';

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
