// Batches for tests of the model, without a scheduler: sequences whose blocks are scattered over the cache.

import type { Batch } from '../../runtime/engine/batch.ts';
import { StepInputs } from '../../runtime/engine/step-inputs.ts';

/** A picture's place in a prompt: `tokens` image tokens from `position` on. */
export interface PlacedImage {
  readonly image: number;
  readonly position: number;
  readonly tokens: number;
}

export interface TestSequence {
  /** Prompt and completion so far. */
  readonly ids: number[];
  readonly images: readonly PlacedImage[];
  /** Tokens whose keys and values are in the cache. */
  computed: number;
  readonly blocks: number[];
}

/** What one sequence does in a step: its next `count` tokens, and the rows of them whose logits it wants. */
export interface BatchPart {
  readonly sequence: TestSequence;
  readonly count: number;
  readonly logits: 'all' | 'last' | 'none';
}

/** The batch of one step. The sequences must own blocks for all their tokens of this step; they are not changed. */
export function makeBatch(step: number, parts: readonly BatchPart[], blockSize: number): Batch {
  const ids: number[] = [];
  const positions: number[] = [];
  const slots: number[] = [];
  const queryStart = [0];
  const contextLengths: number[] = [];
  const logitRows: number[] = [];
  const imageRows: Batch['imageRows'][number][] = [];
  for (const { sequence, count, logits } of parts) {
    const firstRow = ids.length;
    const end = sequence.computed + count;
    for (let position = sequence.computed; position < end; position++) {
      ids.push(at(sequence.ids, position));
      positions.push(position);
      slots.push(at(sequence.blocks, Math.floor(position / blockSize)) * blockSize + (position % blockSize));
    }
    for (const { image, position, tokens } of sequence.images) {
      const from = Math.max(position, sequence.computed);
      const to = Math.min(position + tokens, end);
      if (from < to)
        imageRows.push({
          image,
          sourceRow: from - position,
          targetRow: firstRow + from - sequence.computed,
          count: to - from,
        });
    }
    queryStart.push(ids.length);
    contextLengths.push(end);
    if (logits === 'all') for (let row = firstRow; row < ids.length; row++) logitRows.push(row);
    if (logits === 'last') logitRows.push(ids.length - 1);
  }
  const maxBlocks = Math.max(...contextLengths.map((length) => Math.ceil(length / blockSize)));
  const blockTables = new Int32Array(parts.length * maxBlocks);
  for (const [s, { sequence }] of parts.entries())
    for (let b = 0; b < Math.min(maxBlocks, sequence.blocks.length); b++)
      blockTables[s * maxBlocks + b] = at(sequence.blocks, b);
  const inputs = new StepInputs(ids.length, logitRows.length);
  inputs.ids.set(ids);
  return {
    step,
    numTokens: ids.length,
    numSequences: parts.length,
    inputs,
    positions: Int32Array.from(positions),
    slots: Int32Array.from(slots),
    queryStart: Int32Array.from(queryStart),
    contextLengths: Int32Array.from(contextLengths),
    blockTables,
    maxBlocks,
    logitRows: Int32Array.from(logitRows),
    imageRows,
  };
}

function at(values: readonly number[], index: number): number {
  const value = values[index];
  if (value === undefined) throw new RangeError(`no entry ${index} of ${values.length}`);
  return value;
}
