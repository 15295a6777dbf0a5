import { beforeEach, describe, expect, it } from 'vitest';
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
  const ids = new Int32Array(ops.shape(logits)[0]!).fill(77);
  ops.finishRead(ops.startRead(ops.argmax(logits, columns)), ids);
  return [...ids];
}

describe('argmax', () => {
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
    expect(() => ops.argmax(x, 4)).toThrow(/^argmax: columns 4 are more than logits/);
    expect(() => ops.argmax(ops.scratch('bfloat16', 2, 3), 3)).toThrow(TypeError);
    expect(ops.shape(ops.argmax(ops.scratch('float32', 0, 3), 3))).toEqual([0, 1]);
    expect(argmax([[1]], 0)).toEqual([-1]);
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
    const last = ops.argmax(tensor('float32', [3, 4], [0, 1, 0, 0, 0, 0, 0, 9, 5, 0, 0, 0]), 4); // 1, 3, 0
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
