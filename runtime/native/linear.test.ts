import { beforeEach, describe, expect, it } from 'vitest';
import { expectClose, int8Matrix, randomValues, tensor } from '../../test/support/native-tensors.ts';
import type { Floating } from '../../test/support/native-tensors.ts';
import { native } from './index.ts';

const ops = native();

beforeEach(() => ops.release(0));

/** x [T, K] weight [N, K]^T + bias, in double precision. */
function product(
  x: number[],
  weight: number[],
  bias: number[] | null,
  rows: number,
  n: number,
  k: number,
): number[] {
  return Array.from({ length: rows * n }, (_, index) => {
    const t = Math.floor(index / n);
    const column = index % n;
    let sum = bias ? bias[column]! : 0;
    for (let i = 0; i < k; i++) sum += x[t * k + i]! * weight[column * k + i]!;
    return sum;
  });
}

const shapes: [rows: number, n: number, k: number][] = [
  [0, 5, 7],
  [1, 1, 1],
  [1, 33, 129],
  [2, 7, 64],
  [3, 300, 31],
  [4, 64, 96],
  [5, 1, 3],
  [7, 65, 257],
  [33, 17, 48],
  [20, 50, 97],
  [1, 9, 1600],
  [12, 25, 130],
  [70, 530, 40],
  [20, 5, 14001],
];

const mixes: [x: Floating, weight: Floating, out: Floating][] = [
  ['float32', 'float32', 'float32'],
  ['float32', 'float32', 'bfloat16'],
  ['bfloat16', 'bfloat16', 'bfloat16'],
  ['bfloat16', 'bfloat16', 'float32'],
  ['float32', 'bfloat16', 'float32'],
  ['bfloat16', 'float32', 'bfloat16'],
];

describe.each(mixes)('linear of %s x, %s weight -> %s', (xType, weightType, outType) => {
  it.each(shapes)('[%i rows, %i outputs, %i inputs]', (rows, n, k) => {
    const x = randomValues(rows * k, 1 + rows, xType);
    const weight = randomValues(n * k, 2 + n, weightType);
    const xTensor = tensor(xType, [rows, k], x);
    const weightTensor = tensor(weightType, [n, k], weight);
    for (const biasType of [null, 'float32', 'bfloat16'] as const) {
      const bias = biasType ? randomValues(n, 3, biasType) : null;
      const biasTensor = biasType && bias ? tensor(biasType, [n], bias) : null;
      const result = ops.linear(xTensor, weightTensor, biasTensor, outType);
      expect(ops.dtype(result)).toBe(outType);
      expect(ops.shape(result)).toEqual([rows, n]);
      expectClose(
        ops.readFloat32(result),
        product(x, weight, bias, rows, n, k),
        outType,
        2e-6 * Math.sqrt(k) + 1e-6,
      );
    }
  });
});

describe.each([
  ['float32', 'float32'],
  ['float32', 'bfloat16'],
  ['bfloat16', 'bfloat16'],
  ['bfloat16', 'float32'],
] as const)('linear of %s x, int8 weight -> %s', (xType, outType) => {
  it.each(shapes)('[%i rows, %i outputs, %i inputs]', (rows, n, k) => {
    const x = randomValues(rows * k, 1 + rows, xType);
    const whole = randomValues(n * k, 2 + n, 'float32').map((value) => Math.round(value * 127));
    const scales = randomValues(n, 4 + n, 'float32').map((value) => Math.fround(Math.abs(value) / 64));
    const stands = whole.map((value, index) => value * scales[Math.floor(index / k)]!);
    const xTensor = tensor(xType, [rows, k], x);
    const weight = int8Matrix(n, k, whole, scales);
    expectClose(ops.readFloat32(weight), stands, 'float32', 1e-6);
    for (const biasType of [null, 'float32', 'bfloat16'] as const) {
      const bias = biasType ? randomValues(n, 3, biasType) : null;
      const biasTensor = biasType && bias ? tensor(biasType, [n], bias) : null;
      const result = ops.linear(xTensor, weight, biasTensor, outType);
      expect(ops.dtype(result)).toBe(outType);
      expect(ops.shape(result)).toEqual([rows, n]);
      expectClose(
        ops.readFloat32(result),
        product(x, stands, bias, rows, n, k),
        outType,
        2e-6 * Math.sqrt(k) + 1e-6,
      );
    }
  });
});

describe('linear', () => {
  it('rounds to bfloat16 once, the bias included', () => {
    // 1 + 2^-8 lies between two bfloat16 values; with the bias of 2^-7 the sum is nearer to 1 + 2^-7 + 2^-8 (tie: even) than what two
    // roundings (1 first, then 1 + 2^-7) give.
    for (const rows of [1, 9]) {
      const x = tensor('bfloat16', [rows, 2], Array.from({ length: rows }, () => [1, 2 ** -8]).flat());
      const weight = tensor('bfloat16', [1, 2], [1, 1]);
      const bias = tensor('float32', [1], [2 ** -7]);
      const result = [...ops.readFloat32(ops.linear(x, weight, bias, 'bfloat16'))];
      expect(result).toEqual(Array.from({ length: rows }, () => 1 + 2 ** -6));
    }
  });

  it('gives zeros plus bias for a product over nothing', () => {
    const result = ops.linear(
      tensor('float32', [5, 0], []),
      tensor('float32', [2, 0], []),
      tensor('float32', [2], [3, 4]),
      'float32',
    );
    expect([...ops.readFloat32(result)]).toEqual([3, 4, 3, 4, 3, 4, 3, 4, 3, 4]);
  });

  it('keeps zero rows of a padded weight exactly zero', () => {
    const weight = tensor(
      'bfloat16',
      [4, 32],
      [...randomValues(64, 5, 'bfloat16'), ...Array.from({ length: 64 }, () => 0)],
    );
    for (const rows of [2, 20]) {
      const x = tensor('bfloat16', [rows, 32], randomValues(rows * 32, 6, 'bfloat16'));
      const result = ops.readFloat32(ops.linear(x, weight, null, 'bfloat16'));
      for (let t = 0; t < rows; t++) expect([result[t * 4 + 2], result[t * 4 + 3]]).toEqual([0, 0]);
    }
  });

  it('does not depend on the number of threads', () => {
    const x = tensor('float32', [40, 200], randomValues(8000, 7, 'float32'));
    const weight = tensor('float32', [300, 200], randomValues(60000, 8, 'float32'));
    ops.setThreads(1);
    const one = [...ops.readFloat32(ops.linear(x, weight, null, 'float32'))];
    ops.setThreads(3);
    expectClose(ops.readFloat32(ops.linear(x, weight, null, 'float32')), one, 'float32');
    ops.setThreads(2);
  });
});
