// Seeded operands of the operations under check, the same on every device, and what comes back.
import { DRAW_VALUES, StepInputs } from '../runtime/engine/step-inputs.ts';
import { seeded } from '../test/support/seeded-values.ts';
import type { DType, Native, Tensor } from '../runtime/native/index.ts';

export type Floating = 'float32' | 'bfloat16';

/** How chooseTokens takes a token from a row. */
export interface Draw {
  readonly temperature: number;
  readonly topK: number;
  readonly topP: number;
  readonly share: number;
}

/** The operands of one case; all are freed together. */
export class Operands {
  readonly ops: Native;
  readonly #next: () => number;
  readonly #made: Tensor[] = [];
  readonly #mark: number;

  constructor(ops: Native, seed: number) {
    this.ops = ops;
    this.#next = seeded(seed);
    this.#mark = ops.mark();
  }

  /** Values in [-scale, scale) that dtype holds exactly. */
  tensor(dtype: Floating, shape: readonly number[], scale = 1): Tensor {
    const size = shape.reduce((product, extent) => product * extent, 1);
    const values = Float32Array.from({ length: size }, () => this.#next() * scale);
    const made = this.#allocate(dtype, shape);
    // The upper halves alone: cut, not rounded, which is as good for random values.
    const bytes = dtype === 'float32' ? values : upperHalves(values);
    this.ops.write(made, 0, new Uint8Array(bytes.buffer));
    return made;
  }

  /** Rows that rounding to e4m3, each with a scale of its own, leaves as they are: numbers of it with the largest, 448, times 2^-8. */
  float8Values(rows: number, columns: number): Tensor {
    const made = this.#allocate('bfloat16', [rows, columns]);
    const values = Float32Array.from({ length: rows * columns }, (_, i) => {
      const eighths = 8 + this.below(8);
      return i % columns === 0 ? 1.75 : (Math.sign(this.#next()) * (eighths * 2 ** -this.below(8))) / 16;
    });
    this.ops.write(made, 0, new Uint8Array(upperHalves(values).buffer));
    return made;
  }

  /** A weight of a byte an element, with a scale for each row. */
  quantized(dtype: 'int8' | 'float8', rows: number, columns: number): Tensor {
    const made = this.#allocate(dtype, [rows, columns]);
    // As codes of e4m3 the bytes are numbers up to 448, but for -1 and 127, which are none.
    const isNumber = (byte: number) => dtype === 'int8' || (byte !== -1 && byte !== 127);
    const values = Int8Array.from({ length: rows * columns }, () => {
      const byte = Math.round(this.#next() * 127);
      return isNumber(byte) ? byte : 0;
    });
    const scales = Float32Array.from({ length: rows }, () => Math.abs(this.#next()) / 64);
    this.ops.write(made, 0, new Uint8Array(values.buffer));
    this.ops.write(made, Math.ceil((rows * columns) / 64) * 64, new Uint8Array(scales.buffer));
    return made;
  }

  /** A matrix of zeros, for an operation to fill. */
  zeros(dtype: DType, rows: number, columns: number): Tensor {
    return this.#allocate(dtype, [rows, columns]);
  }

  /** `count` indices below `limit`. */
  indices(count: number, limit: number): Tensor {
    return this.ops.indices(Int32Array.from({ length: count }, () => this.below(limit)));
  }

  /** Choices of tokens, each with a share of its own. */
  draws(rows: number, { temperature, topK, topP }: Omit<Draw, 'share'>): Tensor {
    const inputs = new StepInputs(0, rows);
    for (let row = 0; row < rows; row++) {
      const share = (this.#next() + 1) / 2;
      inputs.draws.set([temperature, topK, topP, share], row * DRAW_VALUES);
    }
    return this.ops.indices(inputs.drawWords);
  }

  below(limit: number): number {
    return Math.min(limit - 1, Math.floor(((this.#next() + 1) / 2) * limit));
  }

  pixels(size: number): Uint8Array {
    return Uint8Array.from({ length: size * size * 3 }, () => this.below(256));
  }

  free(): void {
    this.ops.release(this.#mark);
    for (const tensor of this.#made) this.ops.free(tensor);
  }

  #allocate(dtype: DType, shape: readonly number[]): Tensor {
    const made = this.ops.allocate(dtype, shape);
    this.#made.push(made);
    return made;
  }
}

function upperHalves(values: Float32Array): Uint16Array {
  const words = new Uint16Array(values.buffer);
  return Uint16Array.from({ length: values.length }, (_, i) => words[2 * i + 1] as number);
}
