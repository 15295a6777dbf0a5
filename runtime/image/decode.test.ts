import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { readUint8Npy } from '../../test/support/npy.ts';
import { decodeImage } from './decode.ts';
import { DEFAULT_IMAGE_LIMITS } from './rgb-image.ts';

const FORMATS = new URL('../../test/fixtures/formats/', import.meta.url);
const files = readdirSync(FORMATS).filter((file) => !file.endsWith('.npy'));

describe('decodeImage', () => {
  it('has all 33 formats to test', () => expect(files).toHaveLength(33));

  it.each(files)('decodes %s as Pillow does', async (file) => {
    const { width, height, rgb } = await decodeImage(
      readFileSync(new URL(file, FORMATS)),
      DEFAULT_IMAGE_LIMITS,
    );
    const golden = readUint8Npy(new URL(`${file}.rgb.npy`, FORMATS));
    expect([height, width, 3]).toEqual(golden.shape);
    expect(Buffer.compare(rgb, golden.data)).toBe(0);
  });
});
