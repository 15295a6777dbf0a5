import { beforeEach, describe, expect, it } from 'vitest';
import { randomValues, rounding, tensor } from '../../test/support/native-tensors.ts';
import type { Floating } from '../../test/support/native-tensors.ts';
import { native } from './index.ts';

const ops = native();
const mean = [0.485, 0.456, 0.406];
const std = [0.229, 0.224, 0.225];

beforeEach(() => ops.release(0));

describe.each(['float32', 'bfloat16'] as Floating[])('vision data movement in %s', (dtype) => {
  const round = rounding(dtype);

  it.each([
    [4, 2],
    [9, 3],
    [28, 14],
    [5, 5],
    [3, 1],
  ])('patchify of a picture of %i with patches of %i', (size, patch) => {
    const pixels = Uint8Array.from({ length: size * size * 3 }, (_, i) => (i * 37 + (i >> 3)) & 255);
    const side = size / patch;
    const expected: number[] = [];
    const f = Math.fround;
    for (let p = 0; p < side * side; p++) {
      for (let c = 0; c < 3; c++) {
        for (let row = 0; row < patch; row++) {
          for (let col = 0; col < patch; col++) {
            const y = Math.floor(p / side) * patch + row;
            const x = (p % side) * patch + col;
            const value = f(pixels[(y * size + x) * 3 + c]! / 255);
            expected.push(round(f(f(value - f(mean[c]!)) / f(std[c]!))));
          }
        }
      }
    }
    const result = ops.patchify(pixels, size, patch, mean, std, dtype);
    expect(ops.shape(result)).toEqual([side * side, 3 * patch * patch]);
    expect([...ops.readFloat32(result)]).toEqual(expected);
  });

  it.each([
    [1, 1],
    [4, 7],
    [0, 3],
  ])('visionEmbed of %i patches of width %i', (patches, width) => {
    const rows = randomValues(patches * width, 1, dtype);
    const first = randomValues(width, 2, dtype);
    const position = randomValues((patches + 1) * width, 3, dtype);
    const result = ops.visionEmbed(
      tensor(dtype, [patches, width], rows),
      tensor(dtype, [width], first),
      tensor(dtype, [patches + 1, width], position),
    );
    expect(ops.shape(result)).toEqual([patches + 1, width]);
    expect([...ops.readFloat32(result)]).toEqual(
      [...first, ...rows].map((value, i) => round(value + position[i]!)),
    );
  });

  it.each([
    [2, 3, 1],
    [4, 2, 1],
    [4, 2, 2],
    [6, 5, 1],
    [6, 5, 2],
  ] as const)('pixelShuffle of side %i, width %i, version %i', (side, width, version) => {
    const values = randomValues((1 + side * side) * width, 1, dtype);
    const half = side / 2;
    const expected: number[] = [];
    for (let token = 0; token < half * half; token++) {
      // Version 1 runs down the columns of 2 x 2 squares, version 2 along the rows.
      const [a, b] =
        version === 1 ? [token % half, Math.floor(token / half)] : [Math.floor(token / half), token % half];
      for (const di of [0, 1]) {
        for (const dj of [0, 1]) {
          const row = 1 + (2 * a + di) * side + 2 * b + dj;
          expected.push(...values.slice(row * width, (row + 1) * width));
        }
      }
    }
    const result = ops.pixelShuffle(tensor(dtype, [1 + side * side, width], values), side, version);
    expect(ops.shape(result)).toEqual([half * half, 4 * width]);
    expect([...ops.readFloat32(result)]).toEqual(expected);
  });
});

describe('vision operands', () => {
  it('are named when they do not fit', () => {
    const pixels = new Uint8Array(48);
    expect(() => ops.patchify(pixels, 4, 3, mean, std, 'float32')).toThrow(
      /^patchify: size 4 must be a multiple of patch 3/,
    );
    expect(() => ops.patchify(pixels, 5, 5, mean, std, 'float32')).toThrow(
      /^patchify: pixels must have 75 bytes, not 48/,
    );
    expect(() => ops.patchify(pixels, 4, 2, [1, 2], std, 'float32')).toThrow(
      /^patchify: mean must have 3 elements/,
    );
    expect(() => ops.pixelShuffle(ops.scratch('float32', 10, 2), 3, 1)).toThrow(
      /^pixelShuffle: side must be even/,
    );
    expect(() =>
      ops.visionEmbed(
        ops.scratch('float32', 2, 4),
        ops.allocate('float32', [4]),
        ops.scratch('float32', 2, 4),
      ),
    ).toThrow(/^visionEmbed: position must be \[3, 4\], not float32 \[2, 4\]/);
  });
});
