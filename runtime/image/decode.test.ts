import { readdirSync, readFileSync } from 'node:fs';
import { crc32 } from 'node:zlib';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { readUint8Npy } from '../../test/support/npy.ts';
import { decodeBmp } from './bmp.ts';
import { decodeImage } from './decode.ts';
import { decodeGif } from './gif.ts';
import { ImageError } from './image-error.ts';
import type { ImageErrorCode } from './image-error.ts';
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

function fixture(file: string): Buffer {
  return readFileSync(new URL(file, FORMATS));
}

/** A PNG of that size whose pixels are missing: only its header is true. */
function pngHeader(width: number, height: number): Buffer {
  const file = Buffer.from(fixture('rgb8.png').subarray(0, 33));
  file.writeUInt32BE(width, 16);
  file.writeUInt32BE(height, 20);
  file.writeUInt32BE(crc32(file.subarray(12, 29)), 29);
  return Buffer.concat([file, fixture('rgb8.png').subarray(33)]);
}

function changed(file: string, change: (bytes: Buffer) => void): Buffer {
  const bytes = Buffer.from(fixture(file));
  change(bytes);
  return bytes;
}

describe('a bad picture', () => {
  const text = (content: string) => Buffer.from(content);
  it.each<[string, Buffer, ImageErrorCode, RegExp]>([
    [
      'nothing',
      Buffer.alloc(0),
      'unsupported_type',
      /picture file is empty; supported are JPEG, PNG, WebP, GIF, BMP, TIFF/,
    ],
    ['text', text('hello'), 'unsupported_type', /is text/],
    [
      'SVG',
      text('<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>'),
      'unsupported_type',
      /is an SVG drawing/,
    ],
    ['PDF', text('%PDF-1.7\n'), 'unsupported_type', /is a PDF document/],
    ['HTML', text('<!DOCTYPE html><p>'), 'unsupported_type', /is an HTML page/],
    ['ZIP', text('PK\x03\x04\0\0'), 'unsupported_type', /is a ZIP archive/],
    ['AVIF', text('\0\0\0\x20ftypavif\0\0\0\0'), 'unsupported_type', /is an AVIF picture/],
    ['random bytes', Buffer.from([1, 2, 3, 4, 5]), 'unsupported_type', /of no known picture type/],
    [
      'a PNG bomb',
      pngHeader(100_000, 100_000),
      'too_many_pixels',
      /the PNG picture is 100000x100000 = 10000000000 pixels; at most 64000000/,
    ],
    [
      'a GIF bomb',
      changed('gif_animated.gif', (b) => b.writeUInt32LE(0xffffffff, 6)),
      'too_many_pixels',
      /the GIF picture is 65535x65535/,
    ],
    [
      'a BMP bomb',
      changed('rgb8.bmp', (b) => b.writeUInt32LE(100_000, 18) && b.writeUInt32LE(100_000, 22)),
      'too_many_pixels',
      /the BMP picture is 100000x100000/,
    ],
    [
      'a BMP without width',
      changed('rgb8.bmp', (b) => b.writeUInt32LE(0, 18)),
      'corrupt',
      /claims a size of 0x43/,
    ],
    [
      'a BMP of 7 bits',
      changed('rgb8.bmp', (b) => b.writeUInt16LE(7, 28)),
      'unsupported_type',
      /the BMP picture has 7 bits a pixel/,
    ],
    [
      'a BMP of embedded JPEG',
      changed('rgb8.bmp', (b) => b.writeUInt32LE(4, 30)),
      'unsupported_type',
      /compression 4/,
    ],
    [
      'a GIF without frames',
      Buffer.concat([fixture('gif_animated.gif').subarray(0, 10), Buffer.from([0, 0, 0, 0x3b])]),
      'corrupt',
      /holds no frame/,
    ],
    [
      'a PNG with a wrong checksum in its pixels',
      changed('rgb8.png', (b) => b.fill(0x55, 60, 120)),
      'corrupt',
      /the PNG picture is truncated or corrupt/,
    ],
  ])('%s is refused by name', async (_name, bytes, code, message) => {
    const error = await decodeImage(bytes, DEFAULT_IMAGE_LIMITS).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(ImageError);
    expect(error).toMatchObject({ code, message: expect.stringMatching(message) });
  });

  it('of too many bytes is refused before it is looked at', async () => {
    await expect(decodeImage(Buffer.alloc(11), { maxBytes: 10, maxPixels: 1 })).rejects.toMatchObject({
      code: 'too_large',
      message: 'the picture is 11 bytes; at most 10 are allowed',
    });
  });

  it.each([
    'rgb8.png',
    'jpeg_420.jpg',
    'jpeg_progressive.jpg',
    'webp_lossy.webp',
    'gif_interlaced.gif',
    'rgb8.bmp',
    'rgb8.tiff',
  ])('%s cut anywhere is an ImageError, never wrong pixels', async (file) => {
    const whole = fixture(file);
    const { rgb } = await decodeImage(whole, DEFAULT_IMAGE_LIMITS);
    for (const share of [0.01, 0.1, 0.3, 0.5, 0.7, 0.9]) {
      const outcome = await decodeImage(
        whole.subarray(0, Math.floor(whole.length * share)),
        DEFAULT_IMAGE_LIMITS,
      ).catch((error: unknown) => error);
      // What comes after the pixels (a TIFF's directory may come first) can be missing without harm.
      if (outcome instanceof ImageError) expect(outcome.message).toMatch(/truncated|corrupt|picture file is/);
      else expect(outcome).toMatchObject({ rgb });
    }
    await expect(decodeImage(whole.subarray(0, whole.length / 2), DEFAULT_IMAGE_LIMITS)).rejects.toThrow(
      ImageError,
    );
  });
});

describe('decodeGif', () => {
  it.each<[string, number, RegExp]>([
    ['code size', 0, /LZW code size is 0/],
    ['code size', 12, /LZW code size is 12/],
  ])('refuses a wrong %s of %i', async (_name, codeSize, message) => {
    const bytes = Buffer.concat([
      Buffer.from('GIF89a'),
      Buffer.from([2, 0, 1, 0, 0, 0, 0, 0x2c, 0, 0, 0, 0, 2, 0, 1, 0, 0, codeSize, 1, 0, 0]),
    ]);
    await expect(decodeImage(bytes, DEFAULT_IMAGE_LIMITS)).rejects.toThrow(message);
  });

  it('answers any bytes after its signature with pixels or an ImageError', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (rest) => {
        try {
          const { width, height, rgb } = decodeGif(Buffer.concat([Buffer.from('GIF89a'), rest]), {
            maxBytes: 1e3,
            maxPixels: 1e4,
          });
          expect(rgb).toHaveLength(width * height * 3);
        } catch (error) {
          expect(error).toBeInstanceOf(ImageError);
        }
      }),
      { seed: 6, numRuns: 500 },
    );
  });
});

describe('decodeBmp', () => {
  /** A bitmap of 4 x 2 pixels with a palette of red, green, blue and black. */
  function bitmap(
    bits: number,
    compression: number,
    data: number[],
    height = 2,
    masks: number[] = [],
  ): Buffer {
    const palette = bits <= 8 ? [0, 0, 255, 0, 0, 255, 0, 0, 255, 0, 0, 0, 0, 0, 0, 0] : [];
    const header = Buffer.alloc(54);
    header.write('BM');
    header.writeUInt32LE(54 + palette.length + masks.length * 4, 10);
    header.writeUInt32LE(40, 14);
    header.writeInt32LE(4, 18);
    header.writeInt32LE(height, 22);
    header.writeUInt16LE(1, 26);
    header.writeUInt16LE(bits, 28);
    header.writeUInt32LE(compression, 30);
    header.writeUInt32LE(palette.length / 4, 46);
    const fields = Buffer.alloc(masks.length * 4);
    masks.forEach((mask, i) => fields.writeUInt32LE(mask, i * 4));
    return Buffer.concat([header, fields, Buffer.from(palette), Buffer.from(data)]);
  }
  const RED = 'ff0000';
  const GREEN = '00ff00';
  const BLUE = '0000ff';
  const BLACK = '000000';

  it.each<[string, Buffer, string[]]>([
    [
      '8 bits, bottom-up',
      bitmap(8, 0, [0, 1, 2, 3, 3, 3, 3, 3]),
      [BLACK, BLACK, BLACK, BLACK, RED, GREEN, BLUE, BLACK],
    ],
    [
      '8 bits, top-down',
      bitmap(8, 0, [0, 1, 2, 3, 3, 3, 3, 3], -2),
      [RED, GREEN, BLUE, BLACK, BLACK, BLACK, BLACK, BLACK],
    ],
    ['4 bits', bitmap(4, 0, [0x01, 0x23, 0, 0], 1), [RED, GREEN, BLUE, BLACK]],
    ['1 bit', bitmap(1, 0, [0b01100000, 0, 0, 0], 1), [RED, GREEN, GREEN, RED]],
    ['16 bits of 5', bitmap(16, 0, [0x00, 0x7c, 0xe0, 0x03, 0x1f, 0, 0, 0], 1), [RED, GREEN, BLUE, BLACK]],
    [
      '16 bits of 5, 6 and 5',
      bitmap(16, 3, [0x00, 0xf8, 0xe0, 0x07, 0x1f, 0, 0, 0], 1, [0xf800, 0x7e0, 0x1f]),
      [RED, GREEN, BLUE, BLACK],
    ],
    [
      '32 bits, red first',
      bitmap(32, 3, [255, 0, 0, 9, 0, 255, 0, 9, 0, 0, 255, 9, 0, 0, 0, 9], 1, [0xff, 0xff00, 0xff0000]),
      [RED, GREEN, BLUE, BLACK],
    ],
    [
      'runs of 8 bits',
      bitmap(8, 1, [0, 3, 0, 1, 2, 0, 1, 3, 0, 0, 4, 1, 0, 1]),
      [GREEN, GREEN, GREEN, GREEN, RED, GREEN, BLUE, BLACK],
    ],
    [
      'runs of 4 bits',
      bitmap(4, 2, [4, 0x01, 0, 0, 0, 4, 0x01, 0x23]),
      [RED, GREEN, BLUE, BLACK, RED, GREEN, RED, GREEN],
    ],
    ['jumps', bitmap(8, 1, [1, 1, 0, 2, 1, 1, 2, 2]), [RED, RED, BLUE, BLUE, GREEN, RED, RED, RED]],
  ])('reads %s', (_name, bytes, pixels) => {
    const { rgb } = decodeBmp(bytes, DEFAULT_IMAGE_LIMITS);
    expect(Buffer.from(rgb).toString('hex').match(/.{6}/g)).toEqual(pixels);
  });

  it.each<[string, Buffer, RegExp]>([
    ['missing rows', bitmap(8, 0, [0, 1, 2, 3]), /truncated: 78 bytes are needed for 4x2, 74 are there/],
    ['runs that stop', bitmap(8, 1, [4, 1]), /truncated after 4 of 8 pixels/],
    ['runs that end early', bitmap(8, 1, [4, 1, 0, 1]), /ends after 4 of 8 pixels/],
    [
      'odd bit fields',
      bitmap(32, 3, Array<number>(32).fill(0), 2, [0xff, 0xff0000, 0xff00]),
      /bit fields ff, ff0000, ff00/,
    ],
  ])('refuses %s', (_name, bytes, message) => {
    expect(() => decodeBmp(bytes, DEFAULT_IMAGE_LIMITS)).toThrow(message);
  });
});
