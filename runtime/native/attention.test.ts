import { beforeEach, describe, expect, it } from 'vitest';
import {
  bfloat16,
  e4m3,
  expectClose,
  quantizedMatrix,
  randomValues,
  rounding,
  tensor,
  toE4m3,
} from '../../test/support/native-tensors.ts';
import type { Floating } from '../../test/support/native-tensors.ts';
import { seeded } from '../../test/support/seeded-values.ts';
import { native } from './index.ts';
import type { Tensor } from './index.ts';

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

/** Keys or values [slots, kvHeads * dim], and the cache that holds exactly these. */
interface Cached {
  readonly values: number[];
  readonly cache: Tensor;
}

/** Rows of any e4m3 numbers, each with a scale, so that values, which dtype holds, are below 2. */
function float8Cache(dtype: Floating, slots: number, kvHeads: number, dim: number, seed: number): Cached {
  const next = seeded(seed);
  const round = rounding(dtype);
  const codes = Uint8Array.from({ length: slots * kvHeads * dim }, () => {
    const code = Math.floor(next() * 128) & 0xff;
    return (code & 0x7f) === 0x7f ? code - 1 : code;
  });
  const scales = Array.from({ length: slots * kvHeads }, () => bfloat16((1.5 + next()) * 2 ** -9.3));
  const values = Array.from({ length: slots * kvHeads * dim }, (_, i) => {
    const [slot, head] = [Math.floor(i / (kvHeads * dim)), Math.floor(i / dim) % kvHeads];
    const row = head * slots + slot;
    return round(e4m3(codes[row * dim + (i % dim)]!) * scales[row]!);
  });
  return { values, cache: quantizedMatrix('float8', kvHeads * slots, dim, codes, scales) };
}

function plainCache(dtype: Floating, slots: number, width: number, seed: number): Cached {
  const values = randomValues(slots * width, seed, dtype, 2);
  return { values, cache: tensor(dtype, [slots, width], values) };
}

describe.each(dtypes.flatMap((dtype) => [dtype, 'float8' as const].map((kept) => [dtype, kept] as const)))(
  'pagedAttention in %s over a cache in %s',
  (dtype, kept) => {
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
      [14, 2, 64, 16],
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
        const [kCache, vCache] = [2, 3].map((seed) =>
          kept === 'float8'
            ? float8Cache(dtype, slots, kvHeads, dim, seed)
            : plainCache(dtype, slots, kvHeads * dim, seed),
        ) as [Cached, Cached];
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
                  positions.map((p) => cached(kCache.values, s, p, kvHead)),
                  positions.map((p) => cached(vCache.values, s, p, kvHead)),
                  0.35,
                ),
              );
            }
          }
        });
        const result = ops.pagedAttention(
          tensor(dtype, [rows, width], qkv),
          kCache.cache,
          vCache.cache,
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
      const k = ops.allocate(kept, [8, 4]);
      const v = ops.allocate(kept, [8, 4]);
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
  },
);

/** A row as a float8 cache keeps it. */
function keptRow(row: readonly number[]): number[] {
  if (!row.every(Number.isFinite)) return row.map(() => NaN);
  const most = Math.max(...row.map(Math.abs));
  const scale = Math.min(Math.max(bfloat16(Math.fround(most * Math.fround(1 / 448))), 2 ** -126), 255);
  const factor = Math.fround(1 / scale);
  return row.map((value) => {
    const code = Math.min(Math.abs(Math.fround(value * factor)), 448);
    return Math.sign(value) * toE4m3(code) * scale;
  });
}

describe.each(dtypes)('a float8 cache of %s', (dtype) => {
  /** Stores rows as keys and values of each head, at position 0, where rotation leaves them as they are. */
  function store(rows: readonly (readonly number[])[], heads: number, kvHeads: number, slots: Int32Array) {
    const dim = rows[0]!.length;
    const tokens = slots.length;
    const qkv = Array.from({ length: tokens }, (_, t) => [
      ...Array.from({ length: heads * dim }, () => 1),
      ...rows.slice(t * 2 * kvHeads, (t + 1) * 2 * kvHeads).flat(),
    ]);
    const cosSin = Array.from({ length: dim }, (_, i) => (i < dim / 2 ? 1 : 0));
    const [k, v] = [0, 1].map(() => ops.allocate('float8', [kvHeads * 16, dim])) as [Tensor, Tensor];
    const made = tensor(dtype, [tokens, (heads + 2 * kvHeads) * dim], qkv.flat());
    const positions = ops.indices(new Int32Array(tokens));
    const table = tensor('float32', [1, dim], cosSin);
    ops.ropeAndStoreKv(made, positions, ops.indices(slots), table, k, v, heads, kvHeads, dim);
    const stored = [ops.readFloat32(k), ops.readFloat32(v)] as const;
    const at = (which: 0 | 1, head: number, slot: number) => {
      const row = head * 16 + slot;
      return Array.from(stored[which].subarray(row * dim, (row + 1) * dim), (value) => value + 0); // no -0
    };
    return { at };
  }

  it.each([
    [1, 1, 2, 1],
    [7, 1, 16, 9],
    [4, 2, 6, 3],
    [2, 3, 10, 5],
    [8, 8, 64, 4],
    [14, 2, 128, 6],
    [1, 1, 130, 2],
    [1, 2, 1040, 2],
  ])(
    'keeps rows by heads, rounded: %i heads, %i kv heads of %i, %i tokens',
    (heads, kvHeads, dim, tokens) => {
      const next = seeded(dim);
      const round = rounding(dtype);
      const rows = Array.from({ length: tokens * 2 * kvHeads }, () => {
        const magnitude = 2 ** (Math.round(next() * 20) - 4);
        // Most e4m3 numbers are small beside the largest: some values reach the subnormal ones.
        return Array.from({ length: dim }, () => round(next() ** 3 * magnitude));
      });
      const slots = Int32Array.from({ length: tokens }, (_, i) => (i * 5 + 3) % 16);
      const { at } = store(rows, heads, kvHeads, slots);
      for (let slot = 0; slot < 16; slot++) {
        const token = slots.indexOf(slot);
        for (const which of [0, 1] as const) {
          for (let head = 0; head < kvHeads; head++) {
            const row = rows[(token * 2 + which) * kvHeads + head];
            expect(at(which, head, slot), `${which ? 'value' : 'key'} of head ${head} at ${slot}`).toEqual(
              token < 0 ? Array.from({ length: dim }, () => 0) : keptRow(row ?? []).map((value) => value + 0),
            );
          }
        }
      }
    },
  );

  it.each([
    ['zeros', [0, 0, 0, 0], [0, 0, 0, 0]],
    ['exactly the largest number', [448, 1, -3, 0.5], [448, 1, -3, 0.5]],
    ['numbers with a scale of their own', [672, 3, -1.5, 48], [672, 3, -1.5, 48]],
    [
      'a largest number that is none of e4m3 times any scale',
      [450, 1, 0, -450],
      [451.5, 1.0078125, 0, -451.5],
    ],
    ['ties to even', [448, 17, 19, -21], [448, 16, 20, -20]],
    ['steps of 2^-9 of small ones', [448, 2 ** -9, 3 * 2 ** -10, 2 ** -11], [448, 2 ** -9, 2 ** -8, 0]],
    ['large numbers', [57_344, -16, 1, 0.125], [57_344, -16, 1, 0]],
    ['more than any scale takes', [1e6, -57_344, 1e30, 64], [114_240, -57_120, 114_240, 63.75]],
    ['next to nothing', [2 ** -120, 2 ** -126, 0, -(2 ** -127)], [2 ** -120, 2 ** -126, 0, -(2 ** -127)]],
    ['an infinity, which makes all no number', [1, Infinity, 2, 3], [NaN, NaN, NaN, NaN]],
    ['no number', [1, NaN, 2, 3], [NaN, NaN, NaN, NaN]],
  ])('keeps %s', (_name, row, kept) => {
    const { at } = store([row, row], 1, 1, Int32Array.of(2));
    expect(at(1, 0, 2)).toEqual(kept);
    if (row.every(Number.isFinite)) expect(at(0, 0, 2)).toEqual(kept);
  });

  it('is attended to as what it holds: seeded shapes', () => {
    const next = seeded(7);
    const upTo = (limit: number) => Math.floor(((next() + 1) / 2) * limit);
    for (let round = 0; round < 6; round++) {
      const [kvHeads, group] = [1 + upTo(3), 1 + upTo(7)];
      const dim = [6, 16, 64, 128][upTo(4)]!;
      const [heads, blockSize] = [kvHeads * group, 1 + upTo(20)];
      const tokens = 1 + upTo(90);
      const blocks = Math.ceil(tokens / blockSize) + 2;
      const width = (heads + 2 * kvHeads) * dim;
      const tables = blockTables([{ queries: tokens, context: tokens }], blocks, blockSize, blocks);
      const slot = (p: number) => tables[Math.floor(p / blockSize)]! * blockSize + (p % blockSize);
      const qkv = tensor(dtype, [tokens, width], randomValues(tokens * width, round, dtype, 2));
      const positions = Int32Array.from({ length: tokens }, (_, i) => i);
      const [k, v] = [0, 1].map(() => ops.allocate('float8', [kvHeads * blocks * blockSize, dim])) as [
        Tensor,
        Tensor,
      ];
      const cosSin = tensor('float32', [100, dim], randomValues(100 * dim, 3, 'float32'));
      const slots = ops.indices(positions.map(slot));
      ops.ropeAndStoreKv(qkv, ops.indices(positions), slots, cosSin, k, v, heads, kvHeads, dim);
      // A prompt, then its last token again as one that is decoded.
      const result = (first: number) => {
        const part = ops.scratch(dtype, tokens - first, width);
        ops.copyRows(part, 0, qkv, first, tokens - first);
        const start = ops.indices(Int32Array.of(0, tokens - first));
        const context = ops.indices(Int32Array.of(tokens));
        const table = ops.indices(tables);
        return ops.readFloat32(
          ops.pagedAttention(part, k, v, start, context, table, blocks, blockSize, heads, kvHeads, dim, 0.3),
        );
      };
      const [queries, keys, values] = [ops.readFloat32(qkv), ops.readFloat32(k), ops.readFloat32(v)];
      const cached = (cache: Float32Array, head: number, p: number) => {
        const row = head * blocks * blockSize + slot(p);
        return Array.from(cache.subarray(row * dim, (row + 1) * dim), rounding(dtype));
      };
      const expected = Array.from({ length: tokens * heads }, (_, i) => {
        const [token, head] = [Math.floor(i / heads), i % heads];
        const seen = Array.from({ length: token + 1 }, (_x, p) => p);
        const kvHead = Math.floor(head / group);
        const q = Array.from(queries.subarray(token * width + head * dim, token * width + (head + 1) * dim));
        const at = (cache: Float32Array) => seen.map((p) => cached(cache, kvHead, p));
        return attend(q, at(keys), at(values), 0.3);
      }).flat();
      expectClose(result(0), expected, dtype, tolerance(dtype));
      expectClose(result(tokens - 1), expected.slice(-heads * dim), dtype, tolerance(dtype));
    }
  });

  it('must have rows for each head, and both parts alike', () => {
    const qkv = ops.scratch(dtype, 1, 12);
    const cosSin = ops.scratch('float32', 1, 4);
    const one = ops.indices(Int32Array.of(0));
    const run = (k: Tensor, v: Tensor) => () => ops.ropeAndStoreKv(qkv, one, one, cosSin, k, v, 1, 1, 4);
    const float8 = (rows: number, columns: number) => ops.allocate('float8', [rows, columns]);
    const two = ops.scratch(dtype, 1, 20);
    const odd = float8(7, 4);
    expect(() => ops.ropeAndStoreKv(two, one, one, cosSin, odd, odd, 1, 2, 4)).toThrow(
      /^ropeAndStoreKv: kCache float8 \[7, 4\] must have as many rows for each of 2 heads/,
    );
    expect(run(float8(8, 4), ops.scratch(dtype, 8, 4))).toThrow(/vCache must be a float8 matrix/);
    expect(run(ops.scratch(dtype, 8, 4), float8(8, 4))).toThrow(/vCache must be a (float32|bfloat16) matrix/);
    expect(run(float8(8, 8), float8(8, 8))).toThrow(/kCache must be \[rows, 4\]/);
    expect(run(float8(8, 4), float8(4, 4))).toThrow(/vCache must be \[8, 4\]/);
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
