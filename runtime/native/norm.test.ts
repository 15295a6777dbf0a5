import { beforeEach, describe, expect, it } from 'vitest';
import { expectClose, randomValues, rounding, tensor } from '../../test/support/native-tensors.ts';
import type { Floating } from '../../test/support/native-tensors.ts';
import { native } from './index.ts';
import type { Tensor } from './index.ts';

const ops = native();
const dtypes: Floating[] = ['float32', 'bfloat16'];
const shapes: [rows: number, width: number][] = [
  [0, 8],
  [1, 1],
  [1, 33],
  [3, 64],
  [5, 127],
  [70, 640],
];

beforeEach(() => ops.release(0));

function rows(values: readonly number[], width: number): number[][] {
  return Array.from({ length: values.length / width }, (_, r) => values.slice(r * width, (r + 1) * width));
}

const bits = (tensor: Tensor) => Buffer.from(ops.readFloat32(tensor).buffer);
const sumSquares = (row: readonly number[]) => row.reduce((sum, value) => sum + value * value, 0);

describe.each(dtypes)('norms in %s', (dtype) => {
  const round = rounding(dtype);

  it.each(shapes)('rmsNorm of [%i, %i] rounds before and after the weight', (count, width) => {
    const x = randomValues(count * width, 1, dtype, 3);
    const weight = randomValues(width, 2, dtype, 2);
    const expected = rows(x, width).flatMap((row) => {
      const factor = 1 / Math.sqrt(sumSquares(row) / width + 1e-6);
      return row.map((value, i) => round(round(value * factor) * weight[i]!));
    });
    const result = ops.rmsNorm(tensor(dtype, [count, width], x), tensor(dtype, [width], weight), 1e-6);
    expect(ops.dtype(result)).toBe(dtype);
    expectClose(ops.readFloat32(result), expected, dtype);
  });

  // 9,000 is more than a block of threads takes in one go.
  it.each([...shapes, [2, 9000]])(
    'addRmsNorm of [%i, %i] gives the bits of addScaled and rmsNorm',
    (count, width) => {
      const weight = tensor('float32', [width], randomValues(width, 2, 'float32', 2));
      const scale = tensor(dtype, [width], randomValues(width, 5, dtype));
      for (const yType of dtypes) {
        const y = tensor(yType, [count, width], randomValues(count * width, 4, yType));
        for (const scaled of [scale, null]) {
          const [once, twice] = [1, 1].map((seed) =>
            tensor(dtype, [count, width], randomValues(count * width, seed, dtype, 3)),
          ) as [Tensor, Tensor];
          // The second time x is what the first has made of it.
          for (const into of [tensor(dtype, [count, width], randomValues(count * width, 9, dtype)), null]) {
            ops.addScaled(twice, y, scaled);
            const normed = ops.addRmsNorm(once, y, scaled, weight, 1e-6, into);
            if (into !== null) expect(normed).toBe(into);
            expect(bits(once).equals(bits(twice))).toBe(true);
            expect(bits(normed).equals(bits(ops.rmsNorm(twice, weight, 1e-6)))).toBe(true);
          }
        }
      }
    },
  );

  it.each(shapes)('layerNorm of [%i, %i] rounds once', (count, width) => {
    const x = randomValues(count * width, 3, dtype, 3).map((value) => round(value + 2));
    const weight = randomValues(width, 4, dtype);
    const bias = randomValues(width, 5, dtype);
    const expected = rows(x, width).flatMap((row) => {
      const mean = row.reduce((sum, value) => sum + value, 0) / width;
      const variance = sumSquares(row.map((value) => value - mean)) / width;
      return row.map((value, i) =>
        round(((value - mean) / Math.sqrt(variance + 1e-5)) * weight[i]! + bias[i]!),
      );
    });
    const result = ops.layerNorm(
      tensor(dtype, [count, width], x),
      tensor(dtype, [width], weight),
      tensor(dtype, [width], bias),
      1e-5,
    );
    expectClose(ops.readFloat32(result), expected, dtype, 2e-5);
  });

  it.each(shapes)('qkSumSquares and qkNorm of [%i, 3 x %i]', (count, width) => {
    const qkv = randomValues(count * 3 * width, 6, dtype, 2);
    const weights = [randomValues(width, 7, dtype), randomValues(width, 8, dtype)];
    const made = tensor(dtype, [count, 3 * width], qkv);
    const sums = ops.qkSumSquares(made);
    expect(ops.dtype(sums)).toBe('float32');
    expect(ops.shape(sums)).toEqual([count, 2]);
    const thirds = rows(qkv, width);
    const expectedSums = thirds.flatMap((third, i) => (i % 3 === 2 ? [] : [sumSquares(third)]));
    expectClose(ops.readFloat32(sums), expectedSums, 'float32');
    // A padded head widens the row but not what the mean is over.
    const normWidth = Math.max(1, width - 16);
    const expected = thirds.flatMap((third, i) => {
      if (i % 3 === 2) return third;
      const factor = 1 / Math.sqrt(sumSquares(third) / normWidth + 1e-6);
      return third.map((value, c) => round(round(value * factor) * weights[i % 3]![c]!));
    });
    ops.qkNorm(
      made,
      tensor(dtype, [width], weights[0]!),
      tensor(dtype, [width], weights[1]!),
      sums,
      normWidth,
      1e-6,
    );
    expectClose(ops.readFloat32(made), expected, dtype);
  });
});

describe('norms', () => {
  it('of zero rows are zero, not NaN', () => {
    const zeros = Array.from({ length: 48 }, () => 0);
    const weight = tensor('bfloat16', [16], randomValues(16, 1, 'bfloat16'));
    const bias = tensor('bfloat16', [16], zeros.slice(0, 16));
    const x = tensor('bfloat16', [3, 16], zeros);
    expect([...ops.readFloat32(ops.rmsNorm(x, weight, 1e-6))].map(Math.abs)).toEqual(zeros);
    expect([...ops.readFloat32(ops.layerNorm(x, weight, bias, 1e-6))].map(Math.abs)).toEqual(zeros);
  });

  it('name a weight of the wrong size', () => {
    const x = tensor('float32', [2, 6], randomValues(12, 1, 'float32'));
    const short = tensor('float32', [5], randomValues(5, 1, 'float32'));
    const sums = ops.scratch('float32', 2, 2);
    expect(() => ops.rmsNorm(x, short, 1e-6)).toThrow(/^rmsNorm: weight must have 6 elements, not 5$/);
    expect(() => ops.layerNorm(x, short, short, 1e-6)).toThrow(/^layerNorm: weight must have 6/);
    const long = tensor('float32', [6], randomValues(6, 1, 'float32'));
    const y = ops.scratch('float32', 2, 6);
    expect(() => ops.addRmsNorm(x, ops.scratch('float32', 1, 6), null, long, 1e-6, null)).toThrow(
      /^addRmsNorm: y float32 \[1, 6\] must have the shape of x float32 \[2, 6\]$/,
    );
    expect(() => ops.addRmsNorm(x, y, null, short, 1e-6, null)).toThrow(/^addRmsNorm: weight must have 6/);
    for (const into of [x, y])
      expect(() => ops.addRmsNorm(x, y, null, long, 1e-6, into)).toThrow(
        /^addRmsNorm: into must be another tensor than x and y$/,
      );
    expect(() => ops.addRmsNorm(x, y, null, long, 1e-6, sums)).toThrow(/^addRmsNorm: into must be/);
    expect(() => ops.qkNorm(x, short, short, sums, 6, 1e-6)).toThrow(/^qkNorm: qWeight must have 2/);
  });
});
