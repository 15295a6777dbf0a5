import { beforeEach, describe, expect, it } from 'vitest';
import {
  GREEDY_DRAW,
  LogitRows,
  drawsTensor,
  isWithinRounding,
  largest,
  plainToken,
} from '../../test/support/logits.ts';
import type { Draw } from '../../test/support/logits.ts';
import { randomValues, tensor } from '../../test/support/native-tensors.ts';
import { native } from './index.ts';
import type { Tensor } from './index.ts';

const ops = native();

beforeEach(() => ops.release(0));

/** Values that differ, lower than any that a test puts among them. */
const low = (length: number) => Array.from({ length }, (_, i) => -1 - (i % 97) / 100);

function argmax(rows: readonly (readonly number[])[], columns = rows[0]!.length): number[] {
  return argmaxOf(tensor('float32', [rows.length, rows[0]!.length], rows.flat()), columns);
}

function argmaxOf(logits: Tensor, columns: number): number[] {
  return chosen(logits, columns, ops.shape(logits)[0]!);
}

function chosen(logits: Tensor, columns: number, draws: number | readonly Draw[]): number[] {
  const ids = new Int32Array(ops.shape(logits)[0]!).fill(77);
  const list = typeof draws === 'number' ? Array<Draw>(draws).fill(GREEDY_DRAW) : draws;
  ops.finishRead(ops.startRead(ops.chooseTokens(logits, columns, drawsTensor(list))), ids);
  return [...ids];
}

describe('the likeliest token', () => {
  it('finds the largest value wherever it stands', () => {
    // 70 columns: whole vectors of every instruction set and a rest.
    for (const at of [0, 1, 15, 16, 31, 63, 64, 68, 69]) expect(argmax([low(70).with(at, 3)])).toEqual([at]);
    for (const length of [1, 2, 3, 7])
      expect(argmax([low(length).with(length - 1, 3)])).toEqual([length - 1]);
  });

  it('takes the lowest of equals', () => {
    for (const [first, second] of [
      [2, 40],
      [17, 18],
      [5, 69],
      [64, 68],
    ] as const)
      expect(argmax([low(70).with(first, 3).with(second, 3)])).toEqual([first]);
    expect(argmax([[0, -0, 0]])).toEqual([0]);
    expect(argmax([[-0, 0]])).toEqual([0]);
  });

  it('gives -1 for rows that have no largest number', () => {
    for (const at of [0, 20, 69])
      for (const bad of [NaN, Infinity]) expect(argmax([low(70), low(70).with(at, bad)])).toEqual([0, -1]);
    expect(argmax([Array.from({ length: 70 }, () => -Infinity)])).toEqual([-1]);
    expect(argmax([low(70).fill(-Infinity).with(33, -3e38)])).toEqual([33]);
    // A NaN of either sign, before and after the largest.
    const x = tensor('float32', [1, 70], low(70).with(30, 5));
    for (const at of [3, 50, 69]) {
      for (const bits of [0x7fc00000, 0xffc00000, 0x7f800001]) {
        const copy = tensor('float32', [1, 70], [...ops.readFloat32(x)]);
        ops.write(copy, 4 * at, new Uint8Array(Uint32Array.of(bits).buffer));
        expect(argmaxOf(copy, 70), `${bits.toString(16)} at ${at}`).toEqual([-1]);
      }
    }
  });

  it('equals the plain expression on many wide rows, padding left out', () => {
    const [rows, width, columns] = [9, 5003, 5000];
    const values = randomValues(rows * width, 1, 'bfloat16');
    for (let row = 0; row < rows; row++) values.fill(9, row * width + columns, (row + 1) * width);
    const ids = argmaxOf(tensor('float32', [rows, width], values), columns);
    const expected = Array.from({ length: rows }, (_, row) => {
      const part = values.slice(row * width, row * width + columns);
      return part.indexOf(Math.max(...part));
    });
    expect(ids).toEqual(expected);
  });

  it('refuses what does not fit together', () => {
    const x = ops.scratch('float32', 2, 3);
    const draws = drawsTensor([GREEDY_DRAW, GREEDY_DRAW]);
    expect(() => ops.chooseTokens(x, 4, draws)).toThrow(/^chooseTokens: columns 4 are more than logits/);
    expect(() => ops.chooseTokens(ops.scratch('bfloat16', 2, 3), 3, draws)).toThrow(TypeError);
    expect(() => ops.chooseTokens(x, 3, drawsTensor([GREEDY_DRAW]))).toThrow(
      /^chooseTokens: draws must have 8 elements for each of 2 rows, not 8$/,
    );
    expect(() => ops.chooseTokens(x, 3, ops.scratch('int32', 1, 16))).toThrow(
      /draws must be a result of indices/,
    );
    expect(ops.shape(ops.chooseTokens(ops.scratch('float32', 0, 3), 3, drawsTensor([])))).toEqual([0, 1]);
    expect(argmax([[1]], 0)).toEqual([-1]);
  });
});

describe('a drawn token', () => {
  const rows = new LogitRows(11);
  const isExact = ops.deviceInfo().kind === 'cpu';
  const DRAW: Draw = { temperature: 1, topK: 0, topP: 1, share: 0.5 };

  const someDraw = (length: number): Draw => ({
    temperature: rows.pick([1e-30, 0.05, 0.7, 1, 1, 2, 100, 1e30]),
    topK: rows.pick([0, 0, 1, 2, 7, 50, length - 1, length, length + 5]),
    topP: rows.pick([1e-9, 0.3, 0.9, 0.999, 1, 1]),
    share: rows.pick([0, rows.uniform(), rows.uniform(), rows.uniform()]),
  });

  /** The rows in one call, behind each of them a column of padding that beats all others; how many tokens are not the plain ones, but as good. */
  function check(logits: readonly Float32Array[], draws: readonly Draw[]): number {
    const columns = logits[0]!.length;
    const padded = logits.flatMap((row) => [...row, 3e38]);
    const tokens = chosen(tensor('float32', [logits.length, columns + 1], padded), columns, draws);
    let others = 0;
    for (const [index, token] of tokens.entries()) {
      const [row, draw] = [logits[index]!, draws[index]!];
      const expected = plainToken(row, draw);
      if (token === expected) continue;
      if (draw.share > 0) others += 1; // at 0 a draw by id takes the first token that weighs anything, however little
      if (isExact || !isWithinRounding(token, row, draw))
        expect.fail(`${columns} logits, ${JSON.stringify(draw)}: ${token} instead of ${expected}`);
    }
    return others;
  }

  it.each(rows.kinds)('is the plain one from rows that are %s', (kind) => {
    const [rounds, rowsOfCall] = [60, 10];
    let others = 0;
    for (let round = 0; round < rounds; round++) {
      const length = rows.pick([1, 2, 5, 24, 25, 63, 64, 129, 300]);
      const logits = Array.from({ length: rowsOfCall }, () => rows.row(kind, length));
      others += check(
        logits,
        logits.map(() => (rows.uniform() < 0.1 ? GREEDY_DRAW : someDraw(length))),
      );
    }
    expect(others).toBeLessThanOrEqual(1);
  });

  it.each(rows.kinds)('is the plain one from a whole vocabulary that is %s', (kind) => {
    const logits = rows.row(kind, 64_000);
    const draws: Draw[] = [
      { ...DRAW, share: 0.9 },
      { ...DRAW, topP: 0.9, temperature: 3, share: 0.99 },
      { ...DRAW, topK: 1000, topP: 0.8 },
      { ...DRAW, topK: 50_000 },
    ];
    check(
      draws.map(() => logits),
      draws,
    );
  });

  it.each(rows.kinds)(
    'is one that weighs something at the end of the range, from rows that are %s',
    (kind) => {
      for (const length of [1, 40, 700])
        for (const topK of [0, 30])
          for (const topP of [1, 0.999]) {
            const row = rows.row(kind, length);
            const draw = { temperature: rows.pick([0.01, 1, 1e9]), topK, topP, share: 1 - 2 ** -53 };
            const [token] = chosen(tensor('float32', [1, length], [...row]), length, [draw]);
            expect(Math.exp((row[token!]! - largest(row)) / draw.temperature)).toBeGreaterThan(0);
          }
    },
  );

  it('depends on its row and draw alone', () => {
    const length = 5003;
    const kinds = rows.kinds;
    const logits = kinds.map((kind) => rows.row(kind, length));
    const draws = logits.map(() => someDraw(length));
    const choose = (order: readonly number[]): number[] =>
      chosen(
        tensor(
          'float32',
          [order.length, length],
          order.flatMap((index) => [...logits[index]!]),
        ),
        length,
        order.map((index) => draws[index]!),
      );
    const all = choose([...logits.keys()]);
    for (const order of [[3], [4, 0], [...logits.keys(), ...logits.keys()].toReversed()])
      expect(choose(order)).toEqual(order.map((index) => all[index]));
  });

  it('is none where a row has no largest number, beside others', () => {
    const bad = [
      [1, NaN, 2],
      [1, Infinity, 2],
      [-Infinity, -Infinity, -Infinity],
      [1, -Infinity, -Infinity],
    ];
    for (const draw of [DRAW, { ...DRAW, topK: 2 }, { ...DRAW, topP: 0.5 }])
      expect(
        chosen(
          tensor('float32', [4, 3], bad.flat()),
          3,
          bad.map(() => draw),
        ),
      ).toEqual([-1, -1, -1, 0]);
  });

  it.each<[string, Partial<Draw>, RegExp]>([
    ['a temperature that is none', { temperature: NaN }, /row 1: temperature must be 0 or in/],
    ['one below 0', { temperature: -1 }, /row 1: temperature must be 0 or in/],
    ['one too close to 0', { temperature: 1e-31 }, /row 1: temperature must be 0 or in/],
    ['one too high', { temperature: 1e31 }, /row 1: temperature must be 0 or in/],
    ['half a topK', { topK: 1.5 }, /row 1: topK must be a whole number/],
    ['a topK below 0', { topK: -1 }, /row 1: topK must be a whole number/],
    ['a topP of 0', { topP: 0 }, /row 1: topP must be above 0/],
    ['a share of 1', { share: 1 }, /row 1: share must be in/],
  ])('is refused with %s', (_, changes, message) => {
    const x = ops.scratch('float32', 2, 3);
    expect(() => ops.chooseTokens(x, 3, drawsTensor([DRAW, { ...DRAW, ...changes }]))).toThrow(message);
  });
});

describe('startRead', () => {
  it('reads what stood there when it was called', () => {
    const x = ops.indices(Int32Array.of(3, 4, 5));
    const first = ops.startRead(x);
    ops.write(x, 0, new Uint8Array(Int32Array.of(7).buffer));
    const second = ops.startRead(x);
    ops.release(0);
    const [all, some] = [new Int32Array(3), new Int32Array(2)];
    ops.finishRead(second, all);
    ops.finishRead(first, some);
    expect([...all]).toEqual([7, 4, 5]);
    expect([...some]).toEqual([3, 4]);
  });

  it('refuses readings that do not fit, are finished, or pile up', () => {
    const x = ops.indices(Int32Array.of(3, 4));
    const reading = ops.startRead(x);
    expect(() => ops.finishRead(reading, new Int32Array(3))).toThrow(
      /^finishRead: into takes 3 values, more than the 2 that were read$/,
    );
    ops.finishRead(reading, new Int32Array(0));
    expect(() => ops.finishRead(reading, new Int32Array(1))).toThrow(/^finishRead: reading was finished/);
    expect(() => ops.startRead(ops.scratch('float32', 1, 2))).toThrow(TypeError);
    const readings = Array.from({ length: 64 }, () => ops.startRead(x));
    expect(() => ops.startRead(x)).toThrow(/^startRead: there are 64 readings already/);
    for (const each of readings) ops.finishRead(each, new Int32Array(2));
  });
});

describe('resolveIds', () => {
  it('puts the last choices in place of their placeholders', () => {
    const logits = tensor('float32', [3, 4], [0, 1, 0, 0, 0, 0, 0, 9, 5, 0, 0, 0]);
    const last = ops.chooseTokens(logits, 4, drawsTensor([GREEDY_DRAW, GREEDY_DRAW, GREEDY_DRAW])); // 1, 3, 0
    const ids = ops.indices(Int32Array.of(-2, 17, -1, -3, 0, -4));
    ops.resolveIds(ids, last);
    expect([...ops.readFloat32(ids)]).toEqual([3, 17, 1, 0, 0, -4]);
    expect(() => ops.resolveIds(ids, ids)).toThrow(/^resolveIds: last must be \[rows, 1\]/);
  });
});

describe('readRow', () => {
  it('copies the beginning of a row', () => {
    const x = tensor('float32', [3, 4], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
    const into = new Float32Array(3);
    for (const [row, expected] of [
      [0, [0, 1, 2]],
      [2, [8, 9, 10]],
    ] as const) {
      ops.readRow(x, row, into);
      expect([...into]).toEqual(expected);
    }
    ops.readRow(x, 1, new Float32Array(0));
    expect(() => ops.readRow(x, 0, new Float32Array(5))).toThrow(
      /^readRow: into takes 5 values, more than x/,
    );
    expect(() => ops.readRow(x, 3, into)).toThrow(/^readRow: row must be in \[0, 2\], not 3/);
  });
});
