// The first frame of a GIF as Pillow converts it to RGB: transparent pixels keep the colour of their palette entry, which general decoders throw
// away. Around a frame smaller than the screen lies the transparent colour, or entry 0.

import { ImageError } from './image-error.ts';
import { checkSize } from './rgb-image.ts';
import type { ImageLimits, RgbImage } from './rgb-image.ts';

const MAX_CODES = 4096;

/** Decodes the first frame; throws ImageError. bytes must start with a GIF signature. */
export function decodeGif(bytes: Uint8Array, limits: ImageLimits): RgbImage {
  const reader = new GifReader(bytes);
  reader.skip(6);
  let width = reader.uint16();
  let height = reader.uint16();
  const flags = reader.byte();
  reader.skip(2);
  const globalPalette = flags & 0x80 ? reader.palette(flags) : undefined;
  const transparent = reader.skipToFrame();

  const left = reader.uint16();
  const top = reader.uint16();
  const frameWidth = reader.uint16();
  const frameHeight = reader.uint16();
  const frameFlags = reader.byte();
  const palette = frameFlags & 0x80 ? reader.palette(frameFlags) : globalPalette;
  width = Math.max(width, left + frameWidth);
  height = Math.max(height, top + frameHeight);
  checkSize('GIF', width, height, limits);
  checkSize('GIF', frameWidth, frameHeight, limits);

  const codeSize = reader.byte();
  if (codeSize < 1 || codeSize > 11) throw corrupt(`its LZW code size is ${codeSize}`);
  const indices = new Uint8Array(frameWidth * frameHeight);
  decodeLzw(reader.subBlocks(), codeSize, indices);

  const colours = paletteColours(palette);
  const rgb = new Uint8Array(width * height * 3);
  if (frameWidth < width || frameHeight < height) fill(rgb, colours, transparent ?? 0);
  const rows = frameFlags & 0x40 ? interlacedRows(frameHeight) : undefined;
  for (let row = 0; row < frameHeight; row++) {
    const y = top + (rows === undefined ? row : rows[row]!);
    let out = (y * width + left) * 3;
    for (let x = 0; x < frameWidth; x++) {
      const colour = indices[row * frameWidth + x]! * 3;
      rgb[out++] = colours[colour]!;
      rgb[out++] = colours[colour + 1]!;
      rgb[out++] = colours[colour + 2]!;
    }
  }
  return { width, height, rgb };
}

/** 256 colours: those of the palette, then black; a grey ramp without a palette, or when the palette is the beginning of that ramp. */
function paletteColours(palette: Uint8Array | undefined): Uint8Array {
  const colours = new Uint8Array(256 * 3);
  for (let i = 0; i < colours.length; i++) colours[i] = Math.floor(i / 3);
  if (palette?.some((value, i) => value !== colours[i])) {
    colours.fill(0);
    colours.set(palette);
  }
  return colours;
}

function fill(rgb: Uint8Array, colours: Uint8Array, index: number): void {
  const colour = colours.subarray(index * 3, index * 3 + 3);
  for (let i = 0; i < rgb.length; i += 3) rgb.set(colour, i);
}

/** The picture row of each stored row. */
function interlacedRows(height: number): number[] {
  const rows: number[] = [];
  for (const [start, step] of [
    [0, 8],
    [4, 8],
    [2, 4],
    [1, 2],
  ] as const)
    for (let y = start; y < height; y += step) rows.push(y);
  return rows;
}

/** Fills out; a stream that ends before is corrupt, what follows is ignored. */
function decodeLzw(blocks: Iterable<Uint8Array>, codeSize: number, out: Uint8Array): void {
  const clear = 1 << codeSize;
  const end = clear + 1;
  // Code -> the code it extends by one last index.
  const prefix = new Uint16Array(MAX_CODES);
  const last = new Uint8Array(MAX_CODES);
  const stack = new Uint8Array(MAX_CODES + 1);
  let next = clear + 2;
  let width = codeSize + 1;
  let previous = -1;
  let first = 0;
  let written = 0;
  let buffer = 0;
  let bits = 0;

  for (const block of blocks) {
    for (const byte of block) {
      buffer |= byte << bits;
      bits += 8;
      while (bits >= width) {
        const code = buffer & ((1 << width) - 1);
        buffer >>>= width;
        bits -= width;
        if (code === clear) {
          next = clear + 2;
          width = codeSize + 1;
          previous = -1;
          continue;
        }
        if (code === end) throw corrupt(`its data ends after ${written} of ${out.length} pixels`);
        if (previous === -1) {
          if (code >= clear) throw corrupt(`LZW code ${code} is not defined`);
          first = code;
          out[written++] = code;
        } else {
          if (code > next || (code === next && next >= MAX_CODES))
            throw corrupt(`LZW code ${code} is not defined`);
          let depth = 0;
          let at = code;
          if (code === next) {
            stack[depth++] = first;
            at = previous;
          }
          for (; at >= clear; at = prefix[at]!) stack[depth++] = last[at]!;
          first = at;
          stack[depth++] = first;
          while (depth > 0 && written < out.length) out[written++] = stack[--depth]!;
          if (next < MAX_CODES) {
            prefix[next] = previous;
            last[next] = first;
            next++;
            if (next === 1 << width && width < 12) width++;
          }
        }
        previous = code;
        if (written === out.length) return;
      }
    }
  }
  throw corrupt(`it is truncated after ${written} of ${out.length} pixels`);
}

class GifReader {
  readonly #bytes: Uint8Array;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  skip(count: number): void {
    this.#take(count);
  }

  byte(): number {
    return this.#take(1)[0]!;
  }

  uint16(): number {
    const pair = this.#take(2);
    return pair[0]! | (pair[1]! << 8);
  }

  palette(flags: number): Uint8Array {
    return this.#take(3 << ((flags & 7) + 1));
  }

  /** Passes extensions up to the first frame; gives the transparent index that they name. */
  skipToFrame(): number | undefined {
    let transparent: number | undefined;
    for (;;) {
      const kind = this.byte();
      if (kind === 0x2c) return transparent;
      if (kind === 0x3b) throw corrupt('it holds no frame');
      if (kind !== 0x21) continue;
      const label = this.byte();
      for (const block of this.subBlocks())
        if (label === 0xf9 && block.length >= 4 && block[0]! & 1) transparent = block[3];
    }
  }

  *subBlocks(): Generator<Uint8Array> {
    for (let length = this.byte(); length > 0; length = this.byte()) yield this.#take(length);
  }

  #take(count: number): Uint8Array {
    if (this.#at + count > this.#bytes.length) throw corrupt(`it is truncated at byte ${this.#bytes.length}`);
    this.#at += count;
    return this.#bytes.subarray(this.#at - count, this.#at);
  }
}

function corrupt(problem: string): ImageError {
  return new ImageError('corrupt', `the GIF picture is corrupt: ${problem}`);
}
