// Any supported picture to 8-bit RGB, equal to what Pillow's convert('RGB') gives, bit for bit: the model saw no other pixels. Orientation tags of
// photographs are ignored, alpha is dropped without blending, colour profiles are not applied, 16-bit grey is clipped and 16-bit colour keeps its
// high byte.

import sharp from 'sharp';
import type { Sharp } from 'sharp';
import { decodeBmp } from './bmp.ts';
import { decodeGif } from './gif.ts';
import { ImageError } from './image-error.ts';
import { describeOther, IMAGE_TYPES, sniffImageType } from './image-type.ts';
import type { ImageType } from './image-type.ts';
import { checkSize } from './rgb-image.ts';
import type { ImageLimits, RgbImage } from './rgb-image.ts';

// One picture per worker and none twice: threads and caches of the library would only take memory from the model.
sharp.cache(false);
sharp.concurrency(1);

/** Decodes a JPEG, PNG, WebP, GIF (first frame), BMP or TIFF file; sizes are checked before pixels are. Throws ImageError. */
export async function decodeImage(bytes: Uint8Array, limits: ImageLimits): Promise<RgbImage> {
  if (bytes.byteLength > limits.maxBytes)
    throw new ImageError(
      'too_large',
      `the picture is ${bytes.byteLength} bytes; at most ${limits.maxBytes} are allowed`,
    );
  const type = sniffImageType(bytes);
  if (type === undefined) {
    const what = bytes.byteLength === 0 ? 'empty' : describeOther(bytes);
    throw new ImageError(
      'unsupported_type',
      `the picture file is ${what}; supported are ${IMAGE_TYPES.join(', ')}`,
    );
  }
  if (type === 'GIF') return decodeGif(bytes, limits);
  if (type === 'BMP') return decodeBmp(bytes, limits);
  try {
    return await decodeWithSharp(bytes, type, limits);
  } catch (cause) {
    if (cause instanceof ImageError) throw cause;
    const reason = (cause as Error).message.replace(/\s+/g, ' ').trim();
    throw new ImageError('corrupt', `the ${type} picture is truncated or corrupt: ${reason}`, { cause });
  }
}

async function decodeWithSharp(bytes: Uint8Array, type: ImageType, limits: ImageLimits): Promise<RgbImage> {
  // The limit is checked by hand, so that the error can name the size.
  const open = (): Sharp =>
    sharp(bytes, { failOn: 'error', ignoreIcc: true, limitInputPixels: false, pages: 1 });
  const metadata = await open().metadata();
  checkSize(type, metadata.width, metadata.height, limits);
  // Pillow turns TIFF pictures, and those alone, as their orientation tag says.
  const picture = type === 'TIFF' ? open().autoOrient() : open();
  if (metadata.space === 'cmyk') return decodeCmyk(picture);
  if (metadata.space === 'grey16')
    return decodeGrey16(picture, type === 'PNG' && bytes[PNG_COLOUR_TYPE] === PNG_GREY_ALPHA);
  if (metadata.depth !== 'uchar' && metadata.depth !== 'ushort')
    throw new ImageError(
      'unsupported_type',
      `the ${type} picture has samples of type ${metadata.depth}, which is not supported`,
    );
  const { data, info } = await picture
    .removeAlpha()
    .toColourspace('srgb')
    .raw()
    .toBuffer({ resolveWithObject: true });
  return { width: info.width, height: info.height, rgb: toRgb(data, info.channels) };
}

const PNG_COLOUR_TYPE = 25;
const PNG_GREY_ALPHA = 4;

/** Values above 255 become 255: Pillow clips 16-bit grey and does not scale it, except where the file has alpha. */
async function decodeGrey16(picture: Sharp, scaled: boolean): Promise<RgbImage> {
  const { data, info } = await picture
    .removeAlpha()
    .pipelineColourspace('grey16')
    .toColourspace('grey16')
    .raw({ depth: 'ushort' })
    .toBuffer({ resolveWithObject: true });
  const grey = new Uint8Array(info.width * info.height);
  for (let i = 0; i < grey.length; i++) {
    const value = data.readUInt16LE(i * 2 * info.channels);
    grey[i] = scaled ? value >> 8 : Math.min(255, value);
  }
  return { width: info.width, height: info.height, rgb: toRgb(grey, 1) };
}

/** Without a profile: white less black less ink, in 8-bit steps. */
async function decodeCmyk(picture: Sharp): Promise<RgbImage> {
  const { data, info } = await picture
    .pipelineColourspace('cmyk')
    .toColourspace('cmyk')
    .raw()
    .toBuffer({ resolveWithObject: true });
  const { width, height } = info;
  const rgb = new Uint8Array(width * height * 3);
  for (let pixel = 0; pixel < width * height; pixel++) {
    const at = pixel * info.channels;
    const white = 255 - data[at + 3]!;
    for (let channel = 0; channel < 3; channel++)
      rgb[pixel * 3 + channel] = Math.max(0, white - multiply255(data[at + channel]!, white));
  }
  return { width, height, rgb };
}

/** a * b / 255, rounded as Pillow does. */
function multiply255(a: number, b: number): number {
  const product = a * b + 128;
  return ((product >> 8) + product) >> 8;
}

function toRgb(data: Uint8Array, channels: number): Uint8Array {
  if (channels === 3) return data;
  const pixels = data.length / channels;
  const rgb = new Uint8Array(pixels * 3);
  for (let i = 0; i < pixels; i++) rgb.fill(data[i * channels]!, i * 3, i * 3 + 3);
  return rgb;
}
