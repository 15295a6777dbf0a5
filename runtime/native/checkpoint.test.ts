import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeEach, describe, expect, it } from 'vitest';
import { bfloat16, float8Row, randomValues } from '../../test/support/native-tensors.ts';
import type { Floating } from '../../test/support/native-tensors.ts';
import { native } from './index.ts';

const ops = native();
const folder = mkdtempSync(join(tmpdir(), 'native-checkpoint-'));

beforeEach(() => ops.release(0));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function bytesOf(values: readonly number[], type: 'float32' | 'bfloat16' | 'float16'): Uint8Array {
  const view = new DataView(new ArrayBuffer(values.length * (type === 'float32' ? 4 : 2)));
  values.forEach((value, i) => {
    if (type === 'float32') view.setFloat32(4 * i, value, true);
    else if (type === 'float16') view.setFloat16(2 * i, value, true);
    else {
      const word = new DataView(new ArrayBuffer(4));
      word.setFloat32(0, bfloat16(value));
      view.setUint16(2 * i, word.getUint16(0), true);
    }
  });
  return new Uint8Array(view.buffer);
}

function fileWith(name: string, prefix: number, bytes: Uint8Array): string {
  const path = join(folder, name);
  writeFileSync(path, Buffer.concat([new Uint8Array(prefix).fill(171), bytes]));
  return path;
}

describe('copyFromFile', () => {
  const sources = ['float32', 'bfloat16', 'float16'] as const;
  const cases = sources.flatMap((source) =>
    (['float32', 'bfloat16'] as Floating[]).flatMap((to) =>
      [0, 1, 3, 8].map((prefix) => [source, to, prefix] as const),
    ),
  );

  it.each(cases)('takes a rectangle of %s into %s from byte %i', (source, to, prefix) => {
    const [rows, stride] = [7, 600];
    // Halves: exact in every type. 300 columns exceed the pieces that conversions go by.
    const values = Array.from({ length: rows * stride }, (_, i) => ((i * 29) % 255) / 2 - 60);
    const file = ops.openFile(fileWith(`${source}-${to}-${prefix}`, prefix, bytesOf(values, source)));
    const dst = ops.allocate(to, [6, 400]);
    ops.copyFromFile(dst, 1, 5, file, prefix, source, stride, 2, 30, 4, 300);
    const expected = Array.from({ length: 6 * 400 }, (_, index) => {
      const [r, c] = [Math.floor(index / 400) - 1, (index % 400) - 5];
      return r >= 0 && r < 4 && c >= 0 && c < 300 ? values[(r + 2) * stride + c + 30]! : 0;
    });
    expect([...ops.readFloat32(dst)]).toEqual(expected);
    ops.closeFile(file);
    ops.free(dst);
  });

  it.each(sources)('rounds rows of %s into int8, each by its largest magnitude', (source) => {
    // Far more rows and columns than one buffer takes; row 3 is all zeros, and row 5 eight times the others.
    const [rows, stride] = [300, 700];
    const values = Array.from({ length: rows * stride }, (_, i) => {
      const row = Math.floor(i / stride);
      return row === 3 ? 0 : (((i * 29) % 255) / 2 - 60) * (row === 5 ? 8 : 1);
    });
    const file = ops.openFile(fileWith(`${source}-int8`, 3, bytesOf(values, source)));
    const dst = ops.allocate('int8', [rows + 1, 400]);
    ops.copyFromFile(dst, 1, 0, file, 3, source, stride, 0, 30, rows, 400);
    const found = ops.readFloat32(dst);
    expect(found.subarray(0, 400).every((value) => value === 0)).toBe(true);
    const round = source === 'bfloat16' ? bfloat16 : (value: number) => value;
    for (let row = 0; row < rows; row++) {
      const wanted = values.slice(row * stride + 30, row * stride + 430).map(round);
      const half = Math.max(...wanted.map(Math.abs)) / 127 / 2;
      const errors = wanted.map((value, i) => Math.abs(found[(row + 1) * 400 + i]! - value));
      expect(Math.max(...errors), `row ${row}`).toBeLessThanOrEqual(half * 1.0001);
    }
    expect(() => ops.copyFromFile(dst, 0, 1, file, 3, source, stride, 0, 0, 1, 399)).toThrow(
      /takes whole rows only, not 399 columns from 1/,
    );
    ops.closeFile(file);
    ops.free(dst);
  });

  it.each(sources)('rounds rows of %s into float8, each by its largest magnitude', (source) => {
    // As above; row 3 is all zeros, row 5 has an outlier, beside which its other values are next to nothing.
    const [rows, stride] = [300, 700];
    const values = Array.from({ length: rows * stride }, (_, i) => {
      const [row, column] = [Math.floor(i / stride), i % stride];
      if (row === 3) return 0;
      return row === 5 && column === 40 ? 60_000 : ((i * 29) % 255) / 2 - 60;
    });
    const file = ops.openFile(fileWith(`${source}-float8`, 3, bytesOf(values, source)));
    const dst = ops.allocate('float8', [rows + 1, 401]);
    ops.copyFromFile(dst, 1, 0, file, 3, source, stride, 0, 30, rows, 401);
    const found = ops.readFloat32(dst);
    expect(found.subarray(0, 401).every((value) => value === 0)).toBe(true);
    const round = source === 'bfloat16' ? bfloat16 : (value: number) => value;
    for (let row = 0; row < rows; row++) {
      const wanted = float8Row(values.slice(row * stride + 30, row * stride + 431).map(round));
      const got = found.subarray((row + 1) * 401, (row + 2) * 401);
      expect(
        got.every((value, i) => value === Math.fround(wanted[i]!)),
        `row ${row}`,
      ).toBe(true);
    }
    ops.closeFile(file);
    ops.free(dst);
  });

  it.each([NaN, Infinity, -Infinity])('makes no numbers of a row of float8 with %d', (bad) => {
    const values = Array.from({ length: 120 }, (_, i) => (i === 50 ? bad : i - 60));
    const file = ops.openFile(fileWith('not-finite', 0, bytesOf(values, 'float32')));
    const dst = ops.allocate('float8', [3, 40]);
    ops.copyFromFile(dst, 0, 0, file, 0, 'float32', 40, 0, 0, 3, 40);
    const finite = [...ops.readFloat32(dst)].map(Number.isFinite);
    expect(finite).toEqual(Array.from({ length: 120 }, (_, i) => i < 40 || i >= 80));
    ops.closeFile(file);
    ops.free(dst);
  });

  it('converts every float16, and rounds float32 to bfloat16', () => {
    const halves = Uint16Array.from({ length: 65536 }, (_, i) => i);
    const file = ops.openFile(fileWith('halves', 0, new Uint8Array(halves.buffer)));
    const dst = ops.allocate('float32', [65536]);
    ops.copyFromFile(dst, 0, 0, file, 0, 'float16', 65536, 0, 0, 1, 65536);
    const view = new DataView(halves.buffer);
    const result = ops.readFloat32(dst);
    for (let i = 0; i < 65536; i++)
      expect(Object.is(result[i], view.getFloat16(2 * i, true)), `half ${i}`).toBe(true);

    const values = randomValues(1000, 1, 'float32');
    const wide = ops.openFile(fileWith('wide', 0, bytesOf(values, 'float32')));
    const narrow = ops.allocate('bfloat16', [1000]);
    ops.copyFromFile(narrow, 0, 0, wide, 0, 'float32', 1000, 0, 0, 1, 1000);
    expect([...ops.readFloat32(narrow)]).toEqual(values.map(bfloat16));
  });

  it('refuses what lies outside the file, naming path, offset and size, and what lies outside dst', () => {
    const path = fileWith('short', 0, bytesOf([1, 2, 3, 4, 5, 6], 'float32'));
    const file = ops.openFile(path);
    expect(ops.fileBytes(file)).toBe(24);
    const dst = ops.allocate('float32', [3, 2]);
    const copy = (
      offset: number,
      stride: number,
      srcRow: number,
      srcCol: number,
      rows: number,
      cols: number,
    ) => ops.copyFromFile(dst, 0, 0, file, offset, 'float32', stride, srcRow, srcCol, rows, cols);
    copy(0, 2, 0, 0, 3, 2);
    copy(24, 2, 0, 0, 0, 2);
    expect(() => copy(1, 2, 0, 0, 3, 2)).toThrow(
      new RegExp(`^copyFromFile: '${path}' has 24 bytes; the matrix at offset 1 needs 6 elements of 4 bytes`),
    );
    expect(() => copy(0, 2, 1, 0, 3, 2)).toThrow(RangeError);
    expect(() => copy(28, 2, 0, 0, 1, 1)).toThrow(RangeError);
    expect(() => copy(2 ** 39, 2, 0, 0, 1, 1)).toThrow(RangeError);
    expect(() => copy(0, 2 ** 30, 2 ** 30, 0, 1, 1)).toThrow(RangeError);
    expect(() => copy(-4, 2, 0, 0, 1, 1)).toThrow(/^copyFromFile: byteOffset/);
    expect(() => copy(0, 2, 0, 1, 1, 2)).toThrow(/^copyFromFile: columns \[1, 3\) lie outside srcStride 2/);
    expect(() => copy(0, 3, 0, 0, 1, 3)).toThrow(
      /^copyFromFile: the rectangle of 1 x 3 at \(0, 0\) lies outside dst/,
    );
    expect(() => ops.copyFromFile(dst, 0, 0, file, 0, 'int8' as never, 2, 0, 0, 1, 1)).toThrow(TypeError);
    ops.closeFile(file);
    expect(() => copy(0, 2, 0, 0, 1, 1)).toThrow(/^copyFromFile: file is not open$/);
    expect(() => ops.closeFile(file)).toThrow(RangeError);
  });

  // With the file mapped, the process ended with SIGBUS.
  it.each(['bfloat16', 'float32'] as const)(
    'names a file that is cut short while it is open (to %s)',
    (to) => {
      const path = fileWith(`cut-${to}`, 0, new Uint8Array(2 * 64 * 5000));
      const file = ops.openFile(path);
      truncateSync(path, 64 * 5000);
      const dst = ops.allocate(to, [64, 5000]);
      const rows = (from: number, count: number) =>
        ops.copyFromFile(dst, 0, 0, file, 0, 'bfloat16', 5000, from, 0, count, 5000);
      rows(0, 32);
      expect(() => rows(0, 64)).toThrow(
        `copyFromFile: '${path}' has become shorter than the 640000 bytes that it had when it was opened`,
      );
      ops.closeFile(file);
      ops.free(dst);
    },
  );

  it.each([
    ['whole rows', 3, 1_100_000, 0, 1_100_000],
    ['near columns', 400, 700, 90, 300],
    ['far columns', 40, 20_000, 700, 300],
    ['rows longer than a buffer', 3, 150_000, 100, 149_000],
  ])('takes %s of a large matrix in parts', (_, rows, stride, srcCol, cols) => {
    const words = Uint16Array.from({ length: rows * stride }, (_, i) => (i * 40503) & 0x3fff);
    const file = ops.openFile(fileWith('large', 3, new Uint8Array(words.buffer)));
    const bits = Uint32Array.from(
      { length: (rows - 1) * cols },
      (_, i) => words[(Math.floor(i / cols) + 1) * stride + srcCol + (i % cols)]! << 16,
    );
    for (const to of ['bfloat16', 'float32'] as const) {
      const dst = ops.allocate(to, [rows - 1, cols]);
      ops.copyFromFile(dst, 0, 0, file, 3, 'bfloat16', stride, 1, srcCol, rows - 1, cols);
      expect(Buffer.from(ops.readFloat32(dst).buffer).equals(Buffer.from(bits.buffer)), to).toBe(true);
      ops.free(dst);
    }
    ops.closeFile(file);
  });

  // On a device by way of four pieces of 16 MiB: more than twice around them, and a row that is longer than one.
  it.each([
    ['whole rows', 9000, 8000, 0, 8000, 'bfloat16'],
    ['near columns', 16_000, 4500, 1000, 2500, 'bfloat16'],
    ['far columns', 5000, 14_000, 1000, 7000, 'bfloat16'],
    ['rows to be widened', 5000, 8000, 1, 7998, 'float32'],
    ['one long row', 1, 10_000_000, 5, 9_999_990, 'bfloat16'],
  ] as const)('takes %s of a matrix of more than 100 MB', (_, rows, stride, srcCol, cols, to) => {
    const words = new Uint16Array(rows * stride);
    for (let i = 0; i < words.length; i++) words[i] = (i * 40503) & 0x3fff;
    const file = ops.openFile(fileWith('huge', 6, new Uint8Array(words.buffer)));
    const dst = ops.allocate(to, [rows, cols]);
    ops.copyFromFile(dst, 0, 0, file, 6, 'bfloat16', stride, 0, srcCol, rows, cols);
    const found = new Uint32Array(ops.readFloat32(dst).buffer);
    ops.free(dst);
    ops.closeFile(file);
    let wrong = 0;
    for (let r = 0; r < rows; r++)
      for (let c = 0; c < cols; c++)
        if (found[r * cols + c] !== words[r * stride + srcCol + c]! << 16) wrong++;
    expect(wrong).toBe(0);
  });

  it('names a path that cannot be opened', () => {
    const missing = join(folder, 'missing');
    expect(() => ops.openFile(missing)).toThrow(
      `openFile: cannot open '${missing}': No such file or directory`,
    );
    expect(() => ops.openFile(folder)).toThrow(`openFile: not a regular file '${folder}'`);
    const empty = ops.openFile(fileWith('empty', 0, new Uint8Array(0)));
    expect(ops.fileBytes(empty)).toBe(0);
    ops.closeFile(empty);
  });
});
