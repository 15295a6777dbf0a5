import { fileURLToPath } from 'node:url';
import sharp from 'sharp';
import { describe, expect, it } from 'vitest';
import { readUint8Npy } from '../../test/support/npy.ts';
import { seeded } from '../../test/support/seeded-values.ts';
import { native } from './index.ts';

const ops = native();
const fixtures = new URL('../../test/fixtures/images/', import.meta.url);

describe('resizeBicubic', () => {
  it.each(['p1_shapes.png', 'p2_scene.jpg', 'p3_tall.webp', 'p6_rgba.png'])(
    'gives the bytes that Pillow gives for %s',
    async (name) => {
      const decoded = await sharp(fileURLToPath(new URL(name, fixtures)))
        .removeAlpha()
        .raw()
        .toBuffer({ resolveWithObject: true });
      const { width, height } = decoded.info;
      const expected = readUint8Npy(new URL(`pixels_448/${name}.npy`, fixtures));
      expect(expected.shape).toEqual([448, 448, 3]);
      const resized = ops.resizeBicubic(decoded.data, width, height, 448, 448);
      expect(resized.length).toBe(448 * 448 * 3);
      expect(Buffer.compare(resized, expected.data)).toBe(0);
    },
  );

  it('keeps the picture when the size stays', () => {
    const next = seeded(1);
    const rgb = Uint8Array.from({ length: 7 * 5 * 3 }, () => (next() + 1) * 128);
    expect([...ops.resizeBicubic(rgb, 7, 5, 7, 5)]).toEqual([...rgb]);
  });

  it.each([
    [1, 1, 448, 448],
    [1, 300, 448, 448],
    [500, 1, 7, 3],
    [3, 2, 2, 3],
    [448, 9, 448, 448],
    [9, 448, 448, 448],
    [2000, 3, 1, 1],
  ])('keeps one colour one colour, %i x %i -> %i x %i', (width, height, outWidth, outHeight) => {
    const rgb = Uint8Array.from({ length: width * height * 3 }, (_, i) => [0, 255, 77][i % 3]!);
    const resized = ops.resizeBicubic(rgb, width, height, outWidth, outHeight);
    expect(resized.length).toBe(outWidth * outHeight * 3);
    for (let i = 0; i < resized.length; i++) {
      if (resized[i] !== [0, 255, 77][i % 3]) expect.fail(`byte ${i}: ${resized[i]}`);
    }
  });

  it('names what does not fit', () => {
    expect(() => ops.resizeBicubic(new Uint8Array(11), 2, 2, 4, 4)).toThrow(
      /^resizeBicubic: rgb must have 12 bytes, not 11$/,
    );
    expect(() => ops.resizeBicubic(new Uint8Array(0), 0, 2, 4, 4)).toThrow(
      /^resizeBicubic: width must be in/,
    );
    expect(() => ops.resizeBicubic(new Uint8Array(12), 2, 2, 4, 0)).toThrow(
      /^resizeBicubic: outHeight must be in/,
    );
  });
});
