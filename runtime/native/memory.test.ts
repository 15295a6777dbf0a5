import { beforeEach, describe, expect, it } from 'vitest';
import { tensor } from '../../test/support/native-tensors.ts';
import { native } from './index.ts';
import type { DType, Tensor } from './index.ts';

const ops = native();

beforeEach(() => ops.release(0));

describe('persistent tensors', () => {
  it.each(['float32', 'bfloat16', 'int32', 'uint8', 'int8', 'float8'] as DType[])(
    'are zeroed, %s',
    (dtype) => {
      const made = ops.allocate(dtype, [3, 5]);
      expect(ops.dtype(made)).toBe(dtype);
      expect(ops.shape(made)).toEqual([3, 5]);
      expect([...ops.readFloat32(made)]).toEqual(Array.from({ length: 15 }, () => 0));
      ops.free(made);
    },
  );

  it('have one to four dimensions, empty ones included', () => {
    for (const shape of [[7], [0], [2, 0], [2, 3, 4], [1, 2, 3, 4]]) {
      const made = ops.allocate('float32', shape);
      expect(ops.shape(made)).toEqual(shape);
      expect(ops.readFloat32(made).length).toBe(shape.reduce((product, size) => product * size, 1));
      ops.free(made);
    }
    for (const shape of [
      [],
      [1, 1, 1, 1, 1],
      [-1],
      [1.5],
      [2 ** 41, 2 ** 41],
      [Number.NaN],
      ['2' as never],
    ]) {
      expect(() => ops.allocate('float32', shape)).toThrow(RangeError);
    }
  });

  it('are counted, and given back by free', () => {
    const before = ops.memoryBytes().persistent;
    const made = ops.allocate('bfloat16', [1024, 1024]);
    expect(ops.memoryBytes().persistent - before).toBe(2 * 1024 * 1024);
    ops.free(made);
    expect(ops.memoryBytes().persistent).toBe(before);
  });

  it('throw when used after free, even when their slot was taken again', () => {
    const stale = ops.allocate('float32', [2, 2]);
    ops.free(stale);
    const next = ops.allocate('float32', [2, 2]);
    expect(next).not.toBe(stale);
    expect(() => ops.readFloat32(stale)).toThrow(
      /^readFloat32: tensor is a tensor that was freed or released$/,
    );
    expect(() => ops.free(stale)).toThrow(RangeError);
    expect(ops.shape(next)).toEqual([2, 2]);
    ops.free(next);
  });

  it.each([0, -1, 1, 1.5, Number.NaN, Infinity, 2 ** 53, 2 ** 52 + 1, '1', null, undefined, {}])(
    'the handle %s throws',
    (handle) => {
      expect(() => ops.shape(handle as Tensor)).toThrow(/^shape: tensor/);
    },
  );

  it('cannot be larger than the machine', () => {
    expect(() => ops.allocate('float32', [2 ** 20, 2 ** 19])).toThrow(/^allocate: out of (device )?memory/);
    expect(() => ops.scratch('float32', 2 ** 20, 2 ** 19)).toThrow(/^scratch: out of (device )?memory/);
  });

  it('take bytes at an offset and nothing beyond their end', () => {
    const made = ops.allocate('uint8', [4]);
    ops.write(made, 1, Uint8Array.of(5, 6));
    expect([...ops.readFloat32(made)]).toEqual([0, 5, 6, 0]);
    ops.write(made, 4, new Uint8Array(0));
    for (const offset of [3, 4, 5, 2 ** 39]) {
      expect(() => ops.write(made, offset, Uint8Array.of(1, 2))).toThrow(RangeError);
    }
    expect(() => ops.write(made, -1, Uint8Array.of(1))).toThrow(RangeError);
    expect(() => ops.write(made, 0, Float32Array.of(1) as never)).toThrow(TypeError);
  });

  it('widen bfloat16 and keep int32', () => {
    expect([...ops.readFloat32(tensor('bfloat16', [3], [1.5, -0.25, 3]))]).toEqual([1.5, -0.25, 3]);
    expect([...ops.readFloat32(tensor('int32', [2], [-7, 9]))]).toEqual([-7, 9]);
  });
});

describe('the arena', () => {
  it('gives zeroed scratch again after release, and the old handles throw', () => {
    const mark = ops.mark();
    const first = ops.scratch('float32', 2, 3);
    ops.write(first, 0, new Uint8Array(24).fill(255));
    ops.release(mark);
    expect(() => ops.readFloat32(first)).toThrow(RangeError);
    const second = ops.scratch('float32', 2, 3);
    expect(second).not.toBe(first);
    expect([...ops.readFloat32(second)]).toEqual([0, 0, 0, 0, 0, 0]);
  });

  it('keeps what is older than the mark', () => {
    const kept = ops.scratch('int32', 1, 2);
    ops.write(kept, 0, new Uint8Array(Int32Array.of(3, 4).buffer));
    const mark = ops.mark();
    for (let i = 0; i < 100; i++) ops.scratch('float32', 100, 100);
    ops.release(mark);
    expect([...ops.readFloat32(kept)]).toEqual([3, 4]);
    expect(() => ops.release(mark + 1)).toThrow(RangeError);
    ops.release(mark);
  });

  it('reserves no more when the same sequence of results is made again', () => {
    const round = () => {
      const mark = ops.mark();
      for (const rows of [100, 3000, 1, 0, 9000, 50]) ops.scratch('float32', rows, 1024);
      const { arenaUsed } = ops.memoryBytes();
      ops.release(mark);
      return arenaUsed;
    };
    const used = round();
    const { arenaReserved } = ops.memoryBytes();
    for (let i = 0; i < 20; i++) expect(round()).toBe(used);
    expect(ops.memoryBytes().arenaReserved).toBe(arenaReserved);
    expect(ops.memoryBytes().arenaUsed).toBe(0);
  });

  it('does not let free take a result', () => {
    expect(() => ops.free(ops.scratch('float32', 1, 1))).toThrow(
      /^free: tensor is the result of an operation/,
    );
  });
});
