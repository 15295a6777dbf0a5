// What a batch tells the operations by number, where they can read it.

import type { Batch } from '../engine/batch.ts';
import type { Native, Tensor } from '../native/index.ts';

/** int32 tensors in the arena. T tokens of S sequences, L rows whose logits are wanted. */
export interface BatchIndices {
  readonly inputIds: Tensor; // [1, T]
  readonly positions: Tensor; // [1, T]
  readonly slots: Tensor; // [1, T]
  readonly queryStart: Tensor; // [1, S + 1]
  readonly contextLengths: Tensor; // [1, S]
  readonly blockTables: Tensor; // [1, S * maxBlocks]
  readonly maxBlocks: number;
  readonly logitRows: Tensor; // [1, L]
  /** How each of those rows' tokens is chosen. */
  readonly draws: Tensor; // [1, 8 L]
  readonly numLogits: number;
}

export function batchIndices(native: Native, batch: Batch): BatchIndices {
  return {
    inputIds: native.indices(batch.inputs.ids),
    positions: native.indices(batch.positions),
    slots: native.indices(batch.slots),
    queryStart: native.indices(batch.queryStart),
    contextLengths: native.indices(batch.contextLengths),
    blockTables: native.indices(batch.blockTables),
    maxBlocks: batch.maxBlocks,
    logitRows: native.indices(batch.logitRows),
    draws: native.indices(batch.inputs.drawWords),
    numLogits: batch.logitRows.length,
  };
}
