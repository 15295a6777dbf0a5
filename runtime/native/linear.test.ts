import { beforeEach, describe, expect, it } from 'vitest';
import {
  e4m3,
  expectClose,
  float8Row,
  quantizedMatrix,
  randomValues,
  tensor,
} from '../../test/support/native-tensors.ts';
import type { Floating } from '../../test/support/native-tensors.ts';
import { native, type Tensor } from './index.ts';

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
  [2, 15, 100],
  [3, 300, 31],
  [4, 64, 96],
  [5, 1, 3],
  [7, 65, 257],
  [33, 17, 48],
  [20, 50, 97],
  [1, 9, 1600],
  [12, 25, 130],
  [13, 9, 70],
  [19, 8, 70],
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
    const weight = quantizedMatrix('int8', n, k, Int8Array.from(whole), scales);
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

/** Where rows of x are rounded beside a float8 weight: the contract leaves it to the device, which does so where its products are made of whole vectors. */
function roundsRows(xType: Floating, rows: number, n: number, k: number): boolean {
  const { kind, capability } = ops.deviceInfo();
  const multiplies = kind === 'cuda' && Number(capability) >= 8.9 && xType === 'bfloat16';
  return multiplies && rows > 16 && n % 4 === 0 && k % 16 === 0 && k <= 32_768;
}

function rowsOf(values: number[], k: number): number[][] {
  return Array.from({ length: values.length / k }, (_, row) => values.slice(row * k, (row + 1) * k));
}

const float8Shapes: typeof shapes = [
  ...shapes,
  [1, 30, 64],
  [16, 33, 192],
  [17, 16, 16],
  [17, 18, 128],
  [33, 24, 48],
  [100, 136, 80],
  [18, 12, 20_480],
  [17, 4, 32_768],
  [17, 4, 32_784],
];

describe.each([
  ['float32', 'float32'],
  ['float32', 'bfloat16'],
  ['bfloat16', 'bfloat16'],
  ['bfloat16', 'float32'],
] as const)('linear of %s x, float8 weight -> %s', (xType, outType) => {
  it.each(float8Shapes)('[%i rows, %i outputs, %i inputs]', (rows, n, k) => {
    const x = randomValues(rows * k, 1 + rows, xType);
    const codes = Uint8Array.from(randomValues(n * k, 2 + n, 'float32'), (value) => {
      const code = Math.floor((value + 1) * 128);
      return (code & 0x7f) === 0x7f ? 0 : code;
    });
    const scales = randomValues(n, 4 + n, 'float32').map((value) => Math.fround(Math.abs(value) / 224));
    const stands = Array.from(codes, (code, index) => e4m3(code) * scales[Math.floor(index / k)]!);
    const xTensor = tensor(xType, [rows, k], x);
    const weight = quantizedMatrix('float8', n, k, codes, scales);
    expectClose(ops.readFloat32(weight), stands, 'float32', 1e-6);
    const factors = roundsRows(xType, rows, n, k) ? rowsOf(x, k).flatMap(float8Row) : x;
    for (const biasType of [null, 'float32', 'bfloat16'] as const) {
      const bias = biasType ? randomValues(n, 3, biasType) : null;
      const biasTensor = biasType && bias ? tensor(biasType, [n], bias) : null;
      const result = ops.linear(xTensor, weight, biasTensor, outType);
      expect(ops.dtype(result)).toBe(outType);
      expect(ops.shape(result)).toEqual([rows, n]);
      const expected = product(factors, stands, bias, rows, n, k);
      expectClose(ops.readFloat32(result), expected, outType, 2e-6 * Math.sqrt(k) + 1e-6);
    }
  });
});

describe('linear with a float8 weight', () => {
  const [n, k] = [8, 64];
  const codes = Uint8Array.from({ length: n * k }, (_, i) => (i * 37) % 127);
  const scales = Array.from({ length: n }, (_, i) => (i + 1) / 512);
  const stands = Array.from(codes, (code, index) => e4m3(code) * scales[Math.floor(index / k)]!);

  it.each([1, 5, 16, 17, 40])('takes rows of zeros, of one outlier, and next to nothing, of %i', (rows) => {
    const weight = quantizedMatrix('float8', n, k, codes, scales);
    const x = randomValues(rows * k, 9, 'bfloat16');
    x.fill(0, (rows - 1) * k); // the last row
    if (rows > 1) x[3] = 2 ** 20; // beside which all else of the first row is nothing in e4m3
    if (rows > 2) for (let i = k; i < 2 * k; i++) x[i] = 2 ** -120;
    const result = ops.readFloat32(ops.linear(tensor('bfloat16', [rows, k], x), weight, null, 'float32'));
    const rounded = roundsRows('bfloat16', rows, n, k);
    const factors = rounded ? rowsOf(x, k).flatMap(float8Row) : x;
    const expected = product(factors, stands, null, rows, n, k);
    for (const [i, want] of expected.entries()) {
      expect(Math.abs(result[i]! - want), `element ${i}`).toBeLessThanOrEqual(1e-5 * Math.abs(want) + 1e-4);
    }
    for (const value of result.slice((rows - 1) * n)) expect(value).toBe(0);
  });

  it.each([1, 5, 16, 17, 40])(
    'gives no number for a row with NaN or Infinity, and leaves the others alone, of %i',
    (rows) => {
      const weight = quantizedMatrix('float8', n, k, codes, scales);
      const plain = randomValues(rows * k, 9, 'bfloat16');
      const expected = ops.readFloat32(
        ops.linear(tensor('bfloat16', [rows, k], plain), weight, null, 'float32'),
      );
      for (const bad of [NaN, Infinity, -Infinity]) {
        const x = [...plain];
        x[(rows - 1) * k + 7] = bad;
        const result = ops.readFloat32(ops.linear(tensor('bfloat16', [rows, k], x), weight, null, 'float32'));
        expect(result.slice(0, (rows - 1) * n)).toEqual(expected.slice(0, (rows - 1) * n));
        for (const value of result.slice((rows - 1) * n)) expect(Number.isFinite(value)).toBe(false);
      }
    },
  );
});

// What is cut into parts: rows of x, long rows of weights, many of them. Every element would take long in JavaScript; these are near all edges.
const largeShapes: [rows: number, n: number, k: number][] = [
  [17, 33, 64],
  [31, 64, 1024],
  [33, 96, 96],
  [49, 70, 2050],
  [20, 40, 16_416],
  [17, 2100, 1090],
  [529, 100, 130],
  [600, 40, 96],
];

describe.each([
  ['float32', 'float32'],
  ['bfloat16', 'bfloat16'],
  ['bfloat16', 'int8'],
  ['bfloat16', 'float8'],
  ['float32', 'bfloat16'],
] as const)('linear of much %s x, %s weight', (xType, weightType) => {
  it.each(largeShapes)('[%i rows, %i outputs, %i inputs]', (rows, n, k) => {
    const x = randomValues(rows * k, 1 + rows, xType);
    const scales = randomValues(n, 4 + n, 'float32').map((value) =>
      Math.fround(Math.abs(value) / 64 + 0.001),
    );
    let stands: (row: number, i: number) => number;
    let weight: Tensor;
    if (weightType === 'int8' || weightType === 'float8') {
      const codes = Uint8Array.from(randomValues(n * k, 2 + n, 'float32'), (value) => {
        const code = Math.floor((value + 1) * 128);
        return weightType === 'float8' && (code & 0x7f) === 0x7f ? 0 : code;
      });
      weight = quantizedMatrix(
        weightType,
        n,
        k,
        weightType === 'int8' ? new Int8Array(codes.buffer) : codes,
        scales,
      );
      const value = weightType === 'int8' ? (code: number) => (code << 24) >> 24 : e4m3;
      stands = (row, i) => value(codes[row * k + i]!) * scales[row]!;
    } else {
      const values = randomValues(n * k, 2 + n, weightType);
      weight = tensor(weightType, [n, k], values);
      stands = (row, i) => values[row * k + i]!;
    }
    const bias = randomValues(n, 3, 'float32');
    ops.setThreads(1); // which then has all the weights
    const result = ops.readFloat32(
      ops.linear(tensor(xType, [rows, k], x), weight, tensor('float32', [n], bias), 'float32'),
    );
    ops.setThreads(2);
    const edges = (count: number): number[] =>
      [
        ...new Set([
          0,
          15,
          16,
          17,
          31,
          32,
          63,
          64,
          255,
          263,
          264,
          271,
          272,
          527,
          528,
          2047,
          2048,
          count - 17,
          count - 2,
          count - 1,
        ]),
      ].filter((index) => index >= 0 && index < count);
    const indices = edges(rows).flatMap((t) => edges(n).map((column) => [t, column] as const));
    const rounded = weightType === 'float8' && roundsRows(xType, rows, n, k);
    const factors = rounded ? rowsOf(x, k).flatMap(float8Row) : x;
    const expected = indices.map(([t, column]) => {
      let sum = bias[column]!;
      for (let i = 0; i < k; i++) sum += factors[t * k + i]! * stands(column, i);
      return sum;
    });
    const got = Float32Array.from(indices, ([t, column]) => result[t * n + column]!);
    expectClose(got, expected, 'float32', 2e-6 * Math.sqrt(k) + 1e-6);
  });
});

describe('linear with an int8 weight', () => {
  const [n, k] = [43, 200];
  const whole = Int8Array.from({ length: n * k }, (_, i) => ((i * 37) % 255) - 127);
  const scales = Array.from({ length: n }, (_, i) => (i + 1) / 512);

  it.each([1, 2, 3, 4, 5, 16, 17, 40, 70])(
    'takes rows of zeros, of one outlier, and next to nothing, of %i',
    (rows) => {
      const weight = quantizedMatrix('int8', n, k, whole, scales);
      const x = randomValues(rows * k, 9, 'bfloat16');
      x.fill(0, (rows - 1) * k); // the last row
      if (rows > 1) x[3] = 2 ** 12; // beside which all else of the first row is small
      if (rows > 2) for (let i = k; i < 2 * k; i++) x[i] = 2 ** -120;
      const result = ops.readFloat32(ops.linear(tensor('bfloat16', [rows, k], x), weight, null, 'float32'));
      const stands = Array.from(whole, (value, index) => value * scales[Math.floor(index / k)]!);
      for (const [i, want] of product(x, stands, null, rows, n, k).entries()) {
        const row = Math.floor(i / n);
        const largest = Math.max(...x.slice(row * k, (row + 1) * k).map(Math.abs));
        // float32 sums of values up to `largest`, whatever cancels out in them.
        const most = 2 ** -22 * largest * k * 127 * scales[i % n]!;
        expect(Math.abs(result[i]! - want), `element ${i}`).toBeLessThanOrEqual(most);
      }
      for (const value of result.slice((rows - 1) * n)) expect(value).toBe(0);
    },
  );

  it.each([1, 2, 3, 4, 5, 16, 17, 40, 70])(
    'gives no number for a row with NaN or Infinity, and leaves the others alone, of %i',
    (rows) => {
      const weight = quantizedMatrix('int8', n, k, whole, scales);
      const plain = randomValues(rows * k, 9, 'bfloat16');
      const product = (x: number[]): Float32Array =>
        ops.readFloat32(ops.linear(tensor('bfloat16', [rows, k], x), weight, null, 'float32'));
      const expected = product(plain);
      for (const bad of [NaN, Infinity, -Infinity]) {
        const x = [...plain];
        x[(rows - 1) * k + 7] = bad;
        const result = product(x);
        expect(result.slice(0, (rows - 1) * n)).toEqual(expected.slice(0, (rows - 1) * n));
        for (const value of result.slice((rows - 1) * n)) expect(Number.isFinite(value)).toBe(false);
      }
    },
  );
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
