import type { Native } from '../native/index.ts';
import { decodeImage } from './decode.ts';
import { ImageError } from './image-error.ts';
import type { ImageLimits } from './rgb-image.ts';

export interface PreprocessedImage {
  /** uint8 RGB [size, size, 3]. */
  readonly pixels: Uint8Array;
  /** Of the picture as it came. */
  readonly width: number;
  readonly height: number;
}

/** A picture file as the model sees it: decoded and squashed to a square of `size` pixels, whatever its proportions. Throws ImageError. */
export async function preprocessImage(
  bytes: Uint8Array,
  size: number,
  limits: ImageLimits,
  native: Pick<Native, 'resizeBicubic'>,
): Promise<PreprocessedImage> {
  const { width, height, rgb } = await decodeImage(bytes, limits);
  // The horizontal pass comes first: a picture one pixel wide and millions high would grow to size x height in between.
  if (size * height > limits.maxPixels)
    throw new ImageError(
      'too_many_pixels',
      `the picture is ${width}x${height}; at most ${Math.floor(limits.maxPixels / size)} rows are allowed`,
    );
  const pixels =
    width === size && height === size ? rgb : native.resizeBicubic(rgb, width, height, size, size);
  return { pixels, width, height };
}
