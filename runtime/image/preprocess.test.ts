import { readdirSync, readFileSync } from 'node:fs';
import sharp from 'sharp';
import { describe, expect, it } from 'vitest';
import { readUint8Npy } from '../../test/support/npy.ts';
import { resizeBicubicReference } from '../../test/support/resize-bicubic.ts';
import { preprocessImage } from './preprocess.ts';
import { DEFAULT_IMAGE_LIMITS } from './rgb-image.ts';

const IMAGES = new URL('../../test/fixtures/images/', import.meta.url);
const native = { resizeBicubic: resizeBicubicReference };

describe('preprocessImage', () => {
  const goldens = readdirSync(new URL('pixels_448/', IMAGES));
  it('has pictures to test', () => expect(goldens.length).toBeGreaterThan(4));

  it.each(goldens)('gives the pixels of %s', async (golden) => {
    const file = readFileSync(new URL(golden.replace(/\.npy$/, ''), IMAGES));
    const { pixels } = await preprocessImage(file, 448, DEFAULT_IMAGE_LIMITS, native);
    const { shape, data } = readUint8Npy(new URL(`pixels_448/${golden}`, IMAGES));
    expect(shape).toEqual([448, 448, 3]);
    expect(Buffer.compare(pixels, data)).toBe(0);
  });

  it('keeps a picture that has the size', async () => {
    const rgb = Buffer.from(Uint8Array.from({ length: 28 * 28 * 3 }, (_, i) => (i * 7) % 256));
    const file = await sharp(rgb, { raw: { width: 28, height: 28, channels: 3 } })
      .png()
      .toBuffer();
    const { pixels, width, height } = await preprocessImage(file, 28, DEFAULT_IMAGE_LIMITS, native);
    expect([width, height]).toEqual([28, 28]);
    expect(Buffer.compare(pixels, rgb)).toBe(0);
  });

  it('refuses a picture whose rows alone would need too much memory', async () => {
    const file = await sharp({ create: { width: 1, height: 2000, channels: 3, background: 'red' } })
      .png()
      .toBuffer();
    await expect(
      preprocessImage(file, 448, { maxBytes: 1e6, maxPixels: 448 * 1999 }, native),
    ).rejects.toThrow('the picture is 1x2000; at most 1999 rows are allowed');
  });
});
