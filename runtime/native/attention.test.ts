import { beforeEach, describe, expect, it } from 'vitest';
import {
  bfloat16,
  expectClose,
  randomValues,
  rounding,
  seeded,
  tensor,
} from '../../test/support/native-tensors.ts';
import type { Floating } from '../../test/support/native-tensors.ts';
import { native } from './index.ts';

const ops = native();
const dtypes: Floating[] = ['float32', 'bfloat16'];

beforeEach(() => ops.release(0));

/** softmax(q k^T * scale) v of one query over the given keys and values. */
function attend(q: readonly number[], keys: number[][], values: number[][], scale: number): number[] {
  const scores = keys.map((key) => key.reduce((sum, value, i) => sum + value * q[i]!, 0) * scale);
  const highest = Math.max(...scores);
  const weights = scores.map((score) => Math.exp(score - highest));
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  return q.map((_, i) => weights.reduce((sum, weight, k) => sum + weight * values[k]![i]!, 0) / total);
}

/** Weights that are rounded to bfloat16 move a sum of values of up to 2 by up to 2^-8. */
function tolerance(dtype: Floating): number | undefined {
  return dtype === 'bfloat16' ? 2 ** -8 : undefined;
}

describe.each(dtypes)('visionAttention in %s', (dtype) => {
  it.each([
    [1, 1, 1, 1],
    [1, 5, 2, 16],
    [2, 17, 3, 8],
    [3, 64, 1, 32],
    [1, 65, 2, 7],
    [1, 600, 1, 16],
    [1, 300, 2, 64],
  ])('%i images of %i tokens, %i heads of %i', (images, length, heads, dim) => {
    const width = heads * dim;
    const qkv = randomValues(images * length * 3 * width, length, dtype, 2);
    // The last head is padding: zero queries, keys and values.
    const padded = heads > 1 ? heads - 1 : heads;
    for (let r = 0; r < images * length; r++) {
      for (let part = 0; part < 3; part++) {
        qkv.fill(0, r * 3 * width + part * width + padded * dim, r * 3 * width + (part + 1) * width);
      }
    }
    const part = (row: number, which: number, head: number) =>
      qkv.slice(
        row * 3 * width + which * width + head * dim,
        row * 3 * width + which * width + (head + 1) * dim,
      );
    const expected: number[] = [];
    for (let image = 0; image < images; image++) {
      const rows = Array.from({ length }, (_, i) => image * length + i);
      for (const row of rows) {
        for (let head = 0; head < heads; head++) {
          const keys = rows.map((r) => part(r, 1, head));
          const values = rows.map((r) => part(r, 2, head));
          expected.push(...attend(part(row, 0, head), keys, values, 0.3));
        }
      }
    }
    const made = tensor(dtype, [images * length, 3 * width], qkv);
    const result = ops.visionAttention(made, length, heads, dim, 0.3);
    expect(ops.shape(result)).toEqual([images * length, width]);
    expect(ops.dtype(result)).toBe(dtype);
    expectClose(ops.readFloat32(result), expected, dtype, tolerance(dtype));
  });

  it('of no image is empty, and rows must be whole images', () => {
    expect(ops.shape(ops.visionAttention(ops.scratch(dtype, 0, 24), 5, 2, 4, 1))).toEqual([0, 8]);
    expect(() => ops.visionAttention(ops.scratch(dtype, 6, 24), 5, 2, 4, 1)).toThrow(
      /^visionAttention: qkv .* multiple of length = 5 rows/,
    );
    expect(() => ops.visionAttention(ops.scratch(dtype, 5, 23), 5, 2, 4, 1)).toThrow(RangeError);
  });
});

interface Sequence {
  readonly queries: number;
  readonly context: number;
}

/** A shuffled table of distinct blocks per sequence, unused entries -1. */
function blockTables(
  sequences: readonly Sequence[],
  maxBlocks: number,
  blockSize: number,
  blocks: number,
): Int32Array {
  const next = seeded(blocks);
  const free = Array.from({ length: blocks }, (_, i) => i);
  for (let i = blocks - 1; i > 0; i--) {
    const j = Math.floor(((next() + 1) / 2) * (i + 1));
    [free[i], free[j]] = [free[j]!, free[i]!];
  }
  const tables = new Int32Array(sequences.length * maxBlocks).fill(-1);
  sequences.forEach(({ context }, s) => {
    for (let b = 0; b * blockSize < context; b++) tables[s * maxBlocks + b] = free.pop()!;
  });
  return tables;
}

describe.each(dtypes)('pagedAttention in %s', (dtype) => {
  const mixes: Record<string, Sequence[]> = {
    'no sequence': [],
    'one token': [{ queries: 1, context: 1 }],
    'decode at block boundaries': [15, 16, 17, 31, 32, 33].map((context) => ({ queries: 1, context })),
    'decode over more keys than are taken at once': [300, 513].map((context) => ({ queries: 1, context })),
    'a whole prompt': [{ queries: 150, context: 150 }],
    'a later chunk of a prompt': [{ queries: 37, context: 200 }],
    'few rows after a prefix': [
      { queries: 4, context: 70 },
      { queries: 5, context: 70 },
      { queries: 3, context: 3 },
    ],
    'prefill, nothing and decode together': [
      { queries: 33, context: 33 },
      { queries: 0, context: 20 },
      { queries: 1, context: 129 },
      { queries: 0, context: 0 },
      { queries: 40, context: 41 },
    ],
  };
  const layouts: [heads: number, kvHeads: number, dim: number, blockSize: number][] = [
    [7, 1, 16, 16],
    [4, 4, 8, 16],
    [6, 2, 10, 3],
    [7, 1, 128, 16],
    [18, 2, 32, 3],
  ];

  describe.each(layouts)('%i heads, %i kv heads of %i, blocks of %i', (heads, kvHeads, dim, blockSize) => {
    it.each(Object.entries(mixes))('%s', (_name, sequences) => {
      const group = heads / kvHeads;
      const maxBlocks = Math.max(0, ...sequences.map(({ context }) => Math.ceil(context / blockSize))) + 1;
      const blocks = sequences.reduce((sum, { context }) => sum + Math.ceil(context / blockSize), 0) + 2;
      const slots = blocks * blockSize;
      const width = (heads + 2 * kvHeads) * dim;
      const rows = sequences.reduce((sum, { queries }) => sum + queries, 0);
      const qkv = randomValues(rows * width, 1, dtype, 2);
      const kCache = randomValues(slots * kvHeads * dim, 2, dtype, 2);
      const vCache = randomValues(slots * kvHeads * dim, 3, dtype, 2);
      const tables = blockTables(sequences, maxBlocks, blockSize, blocks);
      const queryStart = new Int32Array(sequences.length + 1);
      sequences.forEach(({ queries }, s) => (queryStart[s + 1] = queryStart[s]! + queries));

      const cached = (cache: number[], s: number, position: number, head: number) => {
        const block = tables[s * maxBlocks + Math.floor(position / blockSize)]!;
        const start = ((block * blockSize + (position % blockSize)) * kvHeads + head) * dim;
        return cache.slice(start, start + dim);
      };
      const expected: number[] = [];
      sequences.forEach(({ queries, context }, s) => {
        for (let i = 0; i < queries; i++) {
          const positions = Array.from({ length: context - queries + i + 1 }, (_, p) => p);
          for (let head = 0; head < heads; head++) {
            const start = (queryStart[s]! + i) * width + head * dim;
            const kvHead = Math.floor(head / group);
            expected.push(
              ...attend(
                qkv.slice(start, start + dim),
                positions.map((p) => cached(kCache, s, p, kvHead)),
                positions.map((p) => cached(vCache, s, p, kvHead)),
                0.35,
              ),
            );
          }
        }
      });
      const result = ops.pagedAttention(
        tensor(dtype, [rows, width], qkv),
        tensor(dtype, [slots, kvHeads * dim], kCache),
        tensor(dtype, [slots, kvHeads * dim], vCache),
        ops.indices(queryStart),
        ops.indices(Int32Array.from(sequences, ({ context }) => context)),
        ops.indices(tables),
        maxBlocks,
        blockSize,
        heads,
        kvHeads,
        dim,
        0.35,
      );
      expect(ops.shape(result)).toEqual([rows, heads * dim]);
      expectClose(ops.readFloat32(result), expected, dtype, tolerance(dtype));
    });
  });

  it('refuses lengths and tables that point outside', () => {
    const qkv = ops.scratch(dtype, 3, 12);
    const k = ops.scratch(dtype, 8, 4);
    const v = ops.scratch(dtype, 8, 4);
    const run = (start: number[], lengths: number[], tables: number[]) =>
      ops.pagedAttention(
        qkv,
        k,
        v,
        ops.indices(Int32Array.from(start)),
        ops.indices(Int32Array.from(lengths)),
        ops.indices(Int32Array.from(tables)),
        2,
        4,
        1,
        1,
        4,
        1,
      );
    expect(ops.shape(run([0, 3], [8], [1, 0]))).toEqual([3, 4]);
    expect(() => run([0, 3], [8], [1, 2])).toThrow(
      /^pagedAttention: blockTables: block 2 of sequence 0 lies outside kCache/,
    );
    expect(() => run([0, 3], [8], [1, -1])).toThrow(/blockTables/);
    expect(() => run([0, 3], [9], [1, 0])).toThrow(/contextLengths/);
    expect(() => run([0, 3], [2], [1, 0])).toThrow(/contextLengths/);
    expect(() => run([0, 2], [8], [1, 0])).toThrow(/queryStart/);
    expect(() => run([1, 3], [8], [1, 0])).toThrow(/queryStart/);
    expect(() => run([0, 4, 3], [8, 8], [1, 0, 1, 0])).toThrow(/queryStart must not fall at sequence 1/);
    expect(() => run([0], [8], [1, 0])).toThrow(/queryStart/);
    expect(() => run([0, 3], [8], [1])).toThrow(/blockTables/);
  });
});

describe.each(dtypes)('ropeAndStoreKv in %s', (dtype) => {
  it.each([
    [1, 1, 2, 0],
    [7, 1, 16, 9],
    [4, 2, 6, 3],
    [2, 2, 128, 1],
  ])('%i heads, %i kv heads of %i, %i rows', (heads, kvHeads, dim, rows) => {
    const round = rounding(dtype);
    const half = dim / 2;
    const maxPositions = 50;
    const width = (heads + 2 * kvHeads) * dim;
    const qkv = randomValues(rows * width, 1, dtype);
    const cosSin = Array.from({ length: maxPositions * dim }, (_, i) => {
      const angle = Math.floor(i / dim) * 5e6 ** ((-2 * (i % half)) / dim);
      return Math.fround(i % dim < half ? Math.cos(angle) : Math.sin(angle));
    });
    const positions = Int32Array.from({ length: rows }, (_, i) => (i * 13) % maxPositions);
    const slots = Int32Array.from({ length: rows }, (_, i) => (i * 5 + 3) % 16);
    const expected = qkv.slice();
    for (let r = 0; r < rows; r++) {
      for (let head = 0; head < heads + kvHeads; head++) {
        for (let i = 0; i < half; i++) {
          const at = r * width + head * dim + i;
          const cos = round(cosSin[positions[r]! * dim + i]!);
          const sin = round(cosSin[positions[r]! * dim + half + i]!);
          expected[at] = round(round(qkv[at]! * cos) - round(qkv[at + half]! * sin));
          expected[at + half] = round(round(qkv[at + half]! * cos) + round(qkv[at]! * sin));
        }
      }
    }
    const kvWidth = kvHeads * dim;
    const made = tensor(dtype, [rows, width], qkv);
    const k = ops.allocate(dtype, [16, kvWidth]);
    const v = ops.allocate(dtype, [16, kvWidth]);
    ops.ropeAndStoreKv(
      made,
      ops.indices(positions),
      ops.indices(slots),
      tensor('float32', [maxPositions, dim], cosSin),
      k,
      v,
      heads,
      kvHeads,
      dim,
    );
    const result = ops.readFloat32(made);
    // float32 products may be fused with the sum.
    if (dtype === 'bfloat16') expect([...result]).toEqual(expected);
    else expectClose(result, expected, dtype, 1e-6);
    const stored = [ops.readFloat32(k), ops.readFloat32(v)];
    for (let slot = 0; slot < 16; slot++) {
      const row = slots.indexOf(slot);
      for (const [which, cache] of stored.entries()) {
        const start = row * width + (heads + which * kvHeads) * dim;
        const want =
          row < 0
            ? Array.from({ length: kvWidth }, () => 0)
            : Array.from(result.subarray(start, start + kvWidth));
        expect(Array.from(cache.subarray(slot * kvWidth, (slot + 1) * kvWidth))).toEqual(want);
      }
    }
  });

  it('refuses positions and slots outside the tables and touches nothing then', () => {
    const values = randomValues(2 * 12, 1, dtype);
    const qkv = tensor(dtype, [2, 12], values);
    const cosSin = ops.scratch('float32', 10, 4);
    const k = ops.scratch(dtype, 8, 4);
    const v = ops.scratch(dtype, 8, 4);
    const run = (positions: number[], slots: number[]) =>
      ops.ropeAndStoreKv(
        qkv,
        ops.indices(Int32Array.from(positions)),
        ops.indices(Int32Array.from(slots)),
        cosSin,
        k,
        v,
        1,
        1,
        4,
      );
    expect(() => run([0, 10], [0, 1])).toThrow(/^ropeAndStoreKv: positions holds 10, outside cosSin/);
    expect(() => run([0, -1], [0, 1])).toThrow(/positions/);
    expect(() => run([0, 1], [0, 8])).toThrow(/^ropeAndStoreKv: slots holds 8, outside kCache/);
    expect(() => run([0, 1], [0, -1])).toThrow(/slots/);
    expect(() => run([0], [0])).toThrow(/one element per row/);
    expect([...ops.readFloat32(qkv)]).toEqual(values.map(dtype === 'bfloat16' ? bfloat16 : Math.fround));
  });
});
