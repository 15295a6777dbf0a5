// Seeded values and plain float arithmetic for tests of the native operations.
import { expect } from 'vitest';
import { native } from '../../runtime/native/index.ts';
import type { DType, Native, Tensor } from '../../runtime/native/index.ts';

export type Floating = 'float32' | 'bfloat16';

/** Uniform values in [-1, 1) from a 32-bit xorshift. */
export function seeded(seed: number): () => number {
  let state = (seed * 2654435761 + 1) >>> 0 || 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    state >>>= 0;
    return state / 2 ** 31 - 1;
  };
}

const word = new DataView(new ArrayBuffer(4));

/** The nearest bfloat16, ties to even. */
export function bfloat16(value: number): number {
  word.setFloat32(0, value);
  const bits = word.getUint32(0);
  if (Number.isNaN(value)) return value;
  word.setUint32(0, ((bits + 0x7fff + ((bits >>> 16) & 1)) & 0xffff0000) >>> 0);
  return word.getFloat32(0);
}

/** Rounds to what dtype holds. */
export function rounding(dtype: Floating): (value: number) => number {
  return dtype === 'bfloat16' ? bfloat16 : Math.fround;
}

/** Seeded values that dtype holds exactly. */
export function randomValues(count: number, seed: number, dtype: Floating, scale = 1): number[] {
  const next = seeded(seed);
  const round = rounding(dtype);
  return Array.from({ length: count }, () => round(next() * scale));
}

/** A persistent int8 matrix of whole numbers of -127..127 and a scale for each of its rows. */
export function int8Matrix(
  rows: number,
  cols: number,
  values: readonly number[],
  scales: readonly number[],
): Tensor {
  const ops: Native = native();
  const made = ops.allocate('int8', [rows, cols]);
  ops.write(made, 0, new Uint8Array(Int8Array.from(values).buffer));
  ops.write(made, Math.ceil((rows * cols) / 64) * 64, new Uint8Array(Float32Array.from(scales).buffer));
  return made;
}

/** A persistent tensor with these values; tests leave freeing to the end of their process. */
export function tensor(dtype: DType, shape: readonly number[], values: readonly number[]): Tensor {
  const ops: Native = native();
  const made = ops.allocate(dtype, shape);
  if (dtype === 'bfloat16') {
    const bits = Uint16Array.from(values, (value) => {
      word.setFloat32(0, bfloat16(value));
      return word.getUint32(0) >>> 16;
    });
    ops.write(made, 0, new Uint8Array(bits.buffer));
  } else if (dtype === 'float32') {
    ops.write(made, 0, new Uint8Array(Float32Array.from(values).buffer));
  } else if (dtype === 'int32') {
    ops.write(made, 0, new Uint8Array(Int32Array.from(values).buffer));
  } else {
    ops.write(made, 0, Uint8Array.from(values));
  }
  return made;
}

/**
 * Compares with expected values computed in double precision: within relative plus absolute tolerance (for bfloat16 results up to one unit
 * in the last place on top, because a float32 and a double sum may round to neighbours).
 */
export function expectClose(
  actual: ArrayLike<number>,
  expected: readonly number[],
  dtype: Floating,
  tolerance = 1e-5,
): void {
  expect(actual.length).toBe(expected.length);
  const relative = dtype === 'bfloat16' ? tolerance + 2 ** -7 : tolerance;
  for (let i = 0; i < expected.length; i++) {
    const want = expected[i]!;
    const got = actual[i]!;
    if (!(Math.abs(got - want) <= relative * Math.abs(want) + tolerance)) {
      expect.fail(`element ${i}: ${got} instead of ${want}`);
    }
  }
}
