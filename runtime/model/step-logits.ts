// What a step's forward pass leaves: the logits where they were computed, and which of each row is the largest.

import type { Logits } from '../engine/batch.ts';
import { ReusedInt32Array } from '../engine/reused-arrays.ts';
import type { Native, Tensor } from '../native/index.ts';

/** One object for all steps: each step's logits take the place of the last one's. */
export class StepLogits implements Logits {
  readonly #native: Native;
  readonly #row: Float32Array<ArrayBuffer>; // [vocabSize]
  readonly #bestIds = new ReusedInt32Array();
  #logits: Tensor | undefined;
  best: Int32Array;
  numRows = 0;

  constructor(native: Native, vocabSize: number) {
    this.#native = native;
    this.#row = new Float32Array(vocabSize);
    this.best = this.#bestIds.of(0);
  }

  /** logits [>= numRows, >= vocabSize] that live until the next step, and their argmax [1, >= numRows]. Waits for them. */
  take(logits: Tensor, argmax: Tensor, numRows: number): this {
    this.#logits = logits;
    this.numRows = numRows;
    this.best = this.#bestIds.of(numRows);
    this.#native.readIndices(argmax, this.best);
    return this;
  }

  /** Of a step whose logits nobody wants. */
  none(): this {
    this.#logits = undefined;
    this.numRows = 0;
    this.best = this.#bestIds.of(0);
    return this;
  }

  row(index: number): Float32Array {
    if (this.#logits === undefined || index >= this.numRows)
      throw new RangeError(`row ${index} of ${this.numRows} rows of logits`);
    this.#native.readRow(this.#logits, index, this.#row);
    return this.#row;
  }
}
