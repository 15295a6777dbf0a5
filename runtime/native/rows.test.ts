import { beforeEach, describe, expect, it } from 'vitest';
import { randomValues, tensor } from '../../test/support/native-tensors.ts';
import type { Floating } from '../../test/support/native-tensors.ts';
import { native } from './index.ts';

const ops = native();

beforeEach(() => ops.release(0));

describe.each(['float32', 'bfloat16'] as Floating[])('rows in %s', (dtype) => {
  const width = 5;
  const table = randomValues(7 * width, 1, dtype);
  const row = (index: number) => table.slice(index * width, (index + 1) * width);
  const zeros = [0, 0, 0, 0, 0];

  it('embedding takes the rows of its part of the vocabulary and zeros for the others', () => {
    const made = tensor(dtype, [7, width], table);
    const ids = Int32Array.of(100, 106, 99, 107, 0, -1, 103, 2 ** 31 - 1, -(2 ** 31));
    const result = ops.embedding(made, ops.indices(ids), 100);
    expect(ops.shape(result)).toEqual([9, width]);
    expect([...ops.readFloat32(result)]).toEqual(
      [row(0), row(6), zeros, zeros, zeros, zeros, row(3), zeros, zeros].flat(),
    );
    expect(ops.shape(ops.embedding(made, ops.indices(new Int32Array(0)), 0))).toEqual([0, width]);
  });

  it('gatherRows repeats and reorders', () => {
    const made = tensor(dtype, [7, width], table);
    const result = ops.gatherRows(made, ops.indices(Int32Array.of(6, 0, 6)));
    expect([...ops.readFloat32(result)]).toEqual([row(6), row(0), row(6)].flat());
    expect(ops.shape(ops.gatherRows(made, ops.indices(new Int32Array(0))))).toEqual([0, width]);
    expect(() => ops.gatherRows(made, ops.indices(Int32Array.of(0, -1)))).toThrow(RangeError);
  });

  it('copyRows copies a range, overlapping ones included', () => {
    const dst = tensor(dtype, [7, width], table);
    ops.copyRows(dst, 1, dst, 0, 3);
    expect([...ops.readFloat32(dst)]).toEqual([0, 0, 1, 2, 4, 5, 6].flatMap(row));
    ops.copyRows(dst, 7, dst, 7, 0);
    ops.copyRows(dst, 0, tensor(dtype, [7, width], table), 6, 1);
    expect([...ops.readFloat32(dst)].slice(0, width)).toEqual(row(6));
    expect(() => ops.copyRows(dst, 0, ops.scratch(dtype, 2, width + 1), 0, 1)).toThrow(
      /^copyRows: src .* must have the width/,
    );
    expect(() => ops.copyRows(dst, 0, dst, 5, 3)).toThrow(/^copyRows: rows \[5, 8\) lie outside src/);
  });
});
