import { beforeEach, describe, expect, it } from 'vitest';
import { bfloat16, expectClose, randomValues, rounding, tensor } from '../../test/support/native-tensors.ts';
import type { Floating } from '../../test/support/native-tensors.ts';
import { native } from './index.ts';

const ops = native();
const dtypes: Floating[] = ['float32', 'bfloat16'];
const shapes: [rows: number, width: number][] = [
  [0, 4],
  [1, 1],
  [3, 17],
  [40, 130],
];

beforeEach(() => ops.release(0));

/** erf by its series, 1e-15 for |x| < 4. */
function erf(x: number): number {
  if (Math.abs(x) > 5) return Math.sign(x);
  let term = x;
  let sum = x;
  for (let n = 1; n < 200; n++) {
    term *= (-x * x) / n;
    sum += term / (2 * n + 1);
  }
  return (2 / Math.sqrt(Math.PI)) * sum;
}

describe.each(dtypes)('elementwise operations in %s', (dtype) => {
  const round = rounding(dtype);

  it.each(shapes)('gelu of [%i, %i] in place', (rows, width) => {
    const x = randomValues(rows * width, 1, dtype, 6);
    const made = tensor(dtype, [rows, width], x);
    ops.gelu(made);
    expectClose(
      ops.readFloat32(made),
      x.map((value) => round((value / 2) * (1 + erf(value / Math.SQRT2)))),
      dtype,
      2e-6,
    );
  });

  it.each(shapes)('siluMul of [%i, 2 x %i] rounds silu first', (rows, width) => {
    const gateUp = randomValues(rows * 2 * width, 2, dtype, 8);
    const expected = Array.from({ length: rows * width }, (_, index) => {
      const at = Math.floor(index / width) * 2 * width + (index % width);
      const gate = gateUp[at]!;
      return round(round(gate / (1 + Math.exp(-gate))) * gateUp[at + width]!);
    });
    const result = ops.siluMul(tensor(dtype, [rows, 2 * width], gateUp));
    expect(ops.shape(result)).toEqual([rows, width]);
    expectClose(ops.readFloat32(result), expected, dtype);
  });

  it.each(shapes)('addScaled of [%i, %i] rounds y, its product and the sum', (rows, width) => {
    const x = randomValues(rows * width, 3, dtype);
    const scale = randomValues(width, 5, dtype);
    for (const yType of dtypes) {
      const y = randomValues(rows * width, 4, yType);
      for (const scaled of [false, true]) {
        const made = tensor(dtype, [rows, width], x);
        ops.addScaled(made, tensor(yType, [rows, width], y), scaled ? tensor(dtype, [width], scale) : null);
        const expected = x.map((value, i) => {
          const term = round(y[i]!);
          return round(value + (scaled ? round(term * scale[i % width]!) : term));
        });
        expect([...ops.readFloat32(made)]).toEqual(expected);
      }
    }
  });

  it.each(shapes)('convert of [%i, %i] adds the bias before it rounds', (rows, width) => {
    const x = randomValues(rows * width, 6, dtype);
    const bias = randomValues(width, 7, 'float32');
    for (const to of dtypes) {
      const made = tensor(dtype, [rows, width], x);
      const result = ops.convert(made, tensor('float32', [width], bias), to);
      expect(ops.dtype(result)).toBe(to);
      expect([...ops.readFloat32(result)]).toEqual(
        x.map((value, i) => rounding(to)(Math.fround(value + bias[i % width]!))),
      );
      expect([...ops.readFloat32(ops.convert(made, null, to))]).toEqual(x.map(rounding(to)));
    }
  });
});

describe('extreme values', () => {
  const extremes = [
    0, -0, 1e-30, -1e-30, 4, -4, 6, -6, 20, -20, 87, -87, 89, -89, 104, -104, 300, -300, 3e38, -3e38,
  ];

  it('gelu saturates to x and 0', () => {
    const made = tensor('float32', [1, extremes.length], extremes);
    ops.gelu(made);
    const result = [...ops.readFloat32(made)];
    extremes.forEach((value, i) => {
      const expected = Math.abs(value) < 5 ? (value / 2) * (1 + erf(value / Math.SQRT2)) : Math.max(value, 0);
      expect(Math.abs(result[i]! - expected), `gelu(${value})`).toBeLessThanOrEqual(
        1e-6 * Math.max(1, Math.abs(value)),
      );
    });
  });

  it('silu saturates to x and 0', () => {
    const ones = extremes.map(() => 1);
    const result = [
      ...ops.readFloat32(ops.siluMul(tensor('float32', [1, 2 * extremes.length], [...extremes, ...ones]))),
    ];
    extremes.forEach((value, i) => {
      const expected = value / (1 + Math.exp(-value));
      expect(Math.abs(result[i]! - expected), `silu(${value})`).toBeLessThanOrEqual(
        1e-6 * Math.max(1, Math.abs(value)),
      );
    });
  });

  it('bfloat16 rounding goes to even, keeps infinities and NaN', () => {
    const values = [
      1 + 2 ** -8,
      1 + 3 * 2 ** -8,
      -(1 + 2 ** -8),
      3.3961775e38,
      3.4e38,
      Infinity,
      -Infinity,
      Number.NaN,
      1e-40,
    ];
    const row = Array.from({ length: 40 }, (_, i) => values[i % values.length]!);
    const result = [...ops.readFloat32(ops.convert(tensor('float32', [1, 40], row), null, 'bfloat16'))];
    expect(result).toEqual(row.map((value) => bfloat16(Math.fround(value))));
    expect(result.slice(0, 3)).toEqual([1, 1 + 2 ** -6, -1]);
  });
});
