// Windows and OS/2 bitmaps as Pillow reads them: 1, 4, 8, 16, 24 and 32 bits, bit fields and run-length encoding. Alpha is dropped.

import { ImageError } from './image-error.ts';
import { checkSize } from './rgb-image.ts';
import type { ImageLimits, RgbImage } from './rgb-image.ts';

const RAW = 0;
const RLE8 = 1;
const RLE4 = 2;
const BITFIELDS = 3;

interface Header {
  readonly width: number;
  readonly height: number;
  readonly topDown: boolean;
  readonly bits: number;
  readonly compression: number;
  readonly dataOffset: number;
  /** 256 colours, RGB. */
  readonly palette: Uint8Array;
  /** Red, green, blue of 16-bit and 32-bit pixels. */
  readonly masks: readonly [number, number, number];
}

/** Where the bytes of a 32-bit pixel hold red, green and blue, by the masks; the alpha mask says nothing that matters here. */
const BYTE_ORDERS: readonly (readonly [
  masks: readonly [number, number, number],
  order: readonly [number, number, number],
])[] = [
  [
    [0xff0000, 0xff00, 0xff],
    [2, 1, 0],
  ],
  [
    [0xff000000, 0xff0000, 0xff00],
    [3, 2, 1],
  ],
  [
    [0xff, 0xff00, 0xff0000],
    [0, 1, 2],
  ],
  [
    [0, 0, 0],
    [2, 1, 0],
  ],
];

/** Decodes a bitmap; throws ImageError. bytes must start with 'BM'. */
export function decodeBmp(bytes: Uint8Array, limits: ImageLimits): RgbImage {
  const header = parseHeader(bytes, limits);
  const { width, height, compression } = header;
  const rgb = new Uint8Array(width * height * 3);
  if (compression === RLE8 || compression === RLE4) {
    const indices = decodeRle(bytes, header);
    forEachRow(header, (stored, y) => {
      for (let x = 0; x < width; x++)
        setColour(rgb, y * width + x, header.palette, indices[stored * width + x]!);
    });
    return { width, height, rgb };
  }
  const stride = ((width * header.bits + 31) >>> 5) * 4;
  const needed = header.dataOffset + stride * height;
  if (bytes.length < needed)
    throw corrupt(
      `it is truncated: ${needed} bytes are needed for ${width}x${height}, ${bytes.length} are there`,
    );
  const readRow = rowReader(bytes, header, rgb);
  forEachRow(header, (stored, y) => readRow(header.dataOffset + stored * stride, y * width));
  return { width, height, rgb };
}

function parseHeader(bytes: Uint8Array, limits: ImageLimits): Header {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const need = (end: number): void => {
    if (bytes.length < end) throw corrupt(`it is truncated in its header at byte ${bytes.length}`);
  };
  need(18);
  const headerSize = view.getUint32(14, true);
  const isOs2 = headerSize === 12;
  if (!isOs2 && ![40, 52, 56, 64, 108, 124].includes(headerSize))
    throw unsupported(`a header of ${headerSize} bytes`);
  need(14 + headerSize);
  const width = isOs2 ? view.getUint16(18, true) : view.getInt32(18, true);
  const signedHeight = isOs2 ? view.getUint16(20, true) : view.getInt32(22, true);
  const height = Math.abs(signedHeight);
  checkSize('BMP', width, height, limits);
  const bits = view.getUint16(isOs2 ? 24 : 28, true);
  const compression = isOs2 ? RAW : view.getUint32(30, true);
  if (![1, 4, 8, 16, 24, 32].includes(bits)) throw unsupported(`${bits} bits a pixel`);
  if (compression > BITFIELDS) throw unsupported(`compression ${compression}`);
  if ((compression === RLE8 && bits !== 8) || (compression === RLE4 && bits !== 4))
    throw unsupported(`compression ${compression} with ${bits} bits a pixel`);

  let end = 14 + headerSize;
  let masks: readonly [number, number, number] = [0xff0000, 0xff00, 0xff];
  if (bits === 16) masks = [0x7c00, 0x3e0, 0x1f];
  if (compression === BITFIELDS) {
    if (bits < 16) throw unsupported(`bit fields with ${bits} bits a pixel`);
    need(66);
    masks = [view.getUint32(54, true), view.getUint32(58, true), view.getUint32(62, true)];
    if (headerSize < 52) end += 12;
  }
  let dataOffset = view.getUint32(10, true);
  const palette = new Uint8Array(256 * 3);
  if (bits <= 8) {
    const colours = (isOs2 ? 0 : view.getUint32(46, true)) || 1 << bits;
    if (colours > 256) throw unsupported(`a palette of ${colours} colours`);
    const entry = isOs2 ? 3 : 4;
    need(end + colours * entry);
    for (let i = 0; i < colours; i++)
      for (let channel = 0; channel < 3; channel++)
        palette[i * 3 + channel] = bytes[end + i * entry + 2 - channel]!;
    end += colours * entry;
    // Some writers give the place of the palette for that of the pixels.
    if (dataOffset === 14 + headerSize) dataOffset = end;
  }
  if (dataOffset === 0) dataOffset = end;
  return { width, height, topDown: signedHeight < 0, bits, compression, dataOffset, palette, masks };
}

/** Calls visit with each stored row and the picture row it is: bottom-up unless the height was negative. */
function forEachRow(header: Header, visit: (stored: number, y: number) => void): void {
  for (let stored = 0; stored < header.height; stored++)
    visit(stored, header.topDown ? stored : header.height - 1 - stored);
}

/** Converts a row that starts at a byte of the file to pixels from an index of rgb on. */
function rowReader(bytes: Uint8Array, header: Header, rgb: Uint8Array): (at: number, pixel: number) => void {
  const { width, bits, palette, masks } = header;
  if (bits <= 8) {
    const perByte = 8 / bits;
    const mask = (1 << bits) - 1;
    return (at, pixel) => {
      for (let x = 0; x < width; x++) {
        const shift = 8 - bits * ((x % perByte) + 1);
        setColour(rgb, pixel + x, palette, (bytes[at + Math.floor(x / perByte)]! >> shift) & mask);
      }
    };
  }
  if (bits === 16) {
    const wideGreen = sameMasks(masks, [0xf800, 0x7e0, 0x1f]);
    if (!wideGreen && !sameMasks(masks, [0x7c00, 0x3e0, 0x1f])) throw unsupportedMasks(masks);
    const [redShift, greenMax] = wideGreen ? [11, 63] : [10, 31];
    return (at, pixel) => {
      for (let x = 0; x < width; x++) {
        const value = bytes[at + 2 * x]! | (bytes[at + 2 * x + 1]! << 8);
        rgb[(pixel + x) * 3] = Math.floor((((value >> redShift) & 31) * 255) / 31);
        rgb[(pixel + x) * 3 + 1] = Math.floor((((value >> 5) & greenMax) * 255) / greenMax);
        rgb[(pixel + x) * 3 + 2] = Math.floor(((value & 31) * 255) / 31);
      }
    };
  }
  const order = BYTE_ORDERS.find(([known]) => sameMasks(known, masks))?.[1];
  if (order === undefined || (bits === 24 && Math.max(...order) > 2)) throw unsupportedMasks(masks);
  const bytesPerPixel = bits / 8;
  return (at, pixel) => {
    for (let x = 0; x < width; x++)
      for (let channel = 0; channel < 3; channel++)
        rgb[(pixel + x) * 3 + channel] = bytes[at + x * bytesPerPixel + order[channel]!]!;
  };
}

/** Palette indices in stored row order. */
function decodeRle(bytes: Uint8Array, header: Header): Uint8Array {
  const { width, height } = header;
  const four = header.compression === RLE4;
  const indices = new Uint8Array(width * height);
  let at = header.dataOffset;
  let out = 0;
  let x = 0;
  const put = (value: number): void => {
    if (out < indices.length) indices[out++] = value;
    x++;
  };
  while (out < indices.length) {
    const count = bytes[at++];
    const value = bytes[at++];
    if (count === undefined || value === undefined)
      throw corrupt(`it is truncated after ${out} of ${indices.length} pixels`);
    if (count > 0) {
      const room = Math.min(count, Math.max(0, width - x));
      for (let i = 0; i < room; i++) put(four ? (i % 2 === 0 ? value >> 4 : value & 15) : value);
    } else if (value === 0) {
      out = Math.min(indices.length, Math.ceil(out / width) * width);
      x = 0;
    } else if (value === 1) {
      throw corrupt(`its data ends after ${out} of ${indices.length} pixels`);
    } else if (value === 2) {
      out = Math.min(indices.length, out + (bytes[at++] ?? 0) + (bytes[at++] ?? 0) * width);
      x = out % width;
    } else {
      const length = four ? Math.floor(value / 2) : value;
      for (const byte of bytes.subarray(at, at + length)) {
        if (four) put(byte >> 4);
        put(four ? byte & 15 : byte);
      }
      at += length;
      // Runs start at even places of the file.
      at += at % 2;
    }
  }
  return indices;
}

function setColour(rgb: Uint8Array, pixel: number, palette: Uint8Array, index: number): void {
  rgb[pixel * 3] = palette[index * 3]!;
  rgb[pixel * 3 + 1] = palette[index * 3 + 1]!;
  rgb[pixel * 3 + 2] = palette[index * 3 + 2]!;
}

function sameMasks(a: readonly number[], b: readonly number[]): boolean {
  return a.every((mask, i) => mask === b[i]);
}

function unsupportedMasks(masks: readonly number[]): ImageError {
  return unsupported(`the bit fields ${masks.map((mask) => mask.toString(16)).join(', ')}`);
}

function unsupported(what: string): ImageError {
  return new ImageError('unsupported_type', `the BMP picture has ${what}, which is not supported`);
}

function corrupt(problem: string): ImageError {
  return new ImageError('corrupt', `the BMP picture is corrupt: ${problem}`);
}
