// Seeded values and plain float arithmetic for tests of the native operations.
import { expect } from 'vitest';
import type { Floating } from '../../gpu-check/operands.ts';
import { seeded } from './seeded-values.ts';
import { native } from '../../runtime/native/index.ts';
import type { DType, Native, Tensor } from '../../runtime/native/index.ts';

export type { Floating };

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

/** What an e4m3 code stands for, by the words of the format: a sign, 4 bits of exponent, 3 of fraction. */
export function e4m3(code: number): number {
  const [exponent, fraction] = [(code >> 3) & 15, code & 7];
  if ((code & 0x7f) === 0x7f) return NaN;
  const magnitude = exponent === 0 ? fraction * 2 ** -9 : (8 + fraction) * 2 ** (exponent - 10);
  return code & 0x80 ? -magnitude : magnitude;
}

const E4M3 = Array.from({ length: 0x7f }, (_, code) => e4m3(code));

/** The e4m3 number nearest to a value of at most 448, of two the one with an even code. */
export function toE4m3(value: number): number {
  const magnitude = Math.abs(value);
  let code = E4M3.findLastIndex((number) => number <= magnitude);
  const [below, above] = [magnitude - E4M3[code]!, (E4M3[code + 1] ?? Infinity) - magnitude];
  if (above < below || (above === below && code % 2 === 1)) code++;
  return Math.sign(value) * E4M3[code]!;
}

/** A row as e4m3 times its largest magnitude / 448 holds it. */
export function float8Row(values: readonly number[]): number[] {
  const most = values.reduce((largest, value) => Math.max(largest, Math.abs(value)), 0);
  if (most === 0) return values.map(() => 0);
  const factor = Math.fround(448 / most);
  const scale = Math.fround(most / 448);
  return values.map((value) => toE4m3(Math.fround(value * factor)) * scale);
}

/** A persistent matrix of bytes, as int8 or float8 has them, and a scale for each of its rows. */
export function quantizedMatrix(
  dtype: 'int8' | 'float8',
  rows: number,
  cols: number,
  bytes: Int8Array | Uint8Array,
  scales: readonly number[],
): Tensor {
  const ops: Native = native();
  const made = ops.allocate(dtype, [rows, cols]);
  ops.write(made, 0, new Uint8Array(bytes.buffer));
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
