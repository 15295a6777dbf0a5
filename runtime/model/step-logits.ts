// What a step's forward pass leaves: the logits where they were computed, and the tokens chosen from them.

import type { Logits } from '../engine/batch.ts';
import { ReusedInt32Array } from '../engine/reused-arrays.ts';
import type { Native, Reading, Tensor } from '../native/index.ts';

/** Taken again for a later step once nobody needs this one's. */
export class StepLogits implements Logits {
  readonly #native: Native;
  readonly #row: Float32Array<ArrayBuffer>; // [vocabSize]
  readonly #ids = new ReusedInt32Array();
  #logits: Tensor | undefined;
  #reading: Reading | undefined;
  chosen: Int32Array = this.#ids.of(0);
  numRows = 0;

  constructor(native: Native, vocabSize: number) {
    this.#native = native;
    this.#row = new Float32Array(vocabSize);
  }

  /** logits [>= numRows, >= vocabSize] that live until the next step, and the tokens chosen from them [>= numRows, 1], which are on their way from now on. */
  take(logits: Tensor, chosen: Tensor, numRows: number): void {
    this.#logits = logits;
    this.numRows = numRows;
    this.#reading = this.#native.startRead(chosen);
  }

  /** Of a step whose logits nobody wants. */
  takeNone(): void {
    this.#logits = undefined;
    this.numRows = 0;
  }

  /** Until `chosen` is there. */
  wait(): this {
    this.chosen = this.#ids.of(this.numRows);
    if (this.#reading !== undefined) this.#native.finishRead(this.#reading, this.chosen);
    this.#reading = undefined;
    return this;
  }

  row(index: number): Float32Array {
    if (this.#logits === undefined || index >= this.numRows)
      throw new RangeError(`row ${index} of ${this.numRows} rows of logits`);
    this.#native.readRow(this.#logits, index, this.#row);
    return this.#row;
  }
}
