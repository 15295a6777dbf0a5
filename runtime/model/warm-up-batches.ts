// Batches that nobody asked for, for a model that warms up.

import type { Batch } from '../engine/batch.ts';
import { StepInputs } from '../engine/step-inputs.ts';

const NONE = new Int32Array(0);

/** Of no sequence. */
export const EMPTY_BATCH: Batch = {
  step: 0,
  numTokens: 0,
  numSequences: 0,
  inputs: new StepInputs(0, 0),
  positions: NONE,
  slots: NONE,
  queryStart: Int32Array.of(0),
  contextLengths: NONE,
  blockTables: NONE,
  maxBlocks: 0,
  logitRows: NONE,
  imageRows: [],
};

/** One sequence that begins with so many tokens, in the first blocks of a cache that nobody uses yet; its last token's logits are wanted. */
export function promptBatch(tokens: number, blockSize: number): Batch {
  const maxBlocks = Math.ceil(tokens / blockSize);
  return {
    ...EMPTY_BATCH,
    numTokens: tokens,
    numSequences: 1,
    inputs: new StepInputs(tokens, 1),
    positions: counting(new Int32Array(tokens)),
    slots: counting(new Int32Array(tokens)),
    queryStart: Int32Array.of(0, tokens),
    contextLengths: Int32Array.of(tokens),
    blockTables: counting(new Int32Array(maxBlocks)),
    maxBlocks,
    logitRows: Int32Array.of(tokens - 1),
  };
}

/**
 * In which order to try out numbers of rows (ascending), where there may not be time for all: whole chunks, which most tokens come in, then about a half of
 * that and so on, so that none is far from one that was tried; then the others, largest first.
 */
export function tryingOrder(rows: readonly number[]): number[] {
  const rest = rows.toReversed();
  const order: number[] = [];
  for (let most = rest[0] ?? 0; most >= 1; most /= 2) {
    const next = rest.findIndex((count) => count <= most);
    if (next >= 0) order.push(...rest.splice(next, 1));
  }
  return [...order, ...rest];
}

/** 0, 1, 2, … */
export function counting(array: Int32Array): Int32Array {
  for (let i = 0; i < array.length; i += 1) array[i] = i;
  return array;
}
