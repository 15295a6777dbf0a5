import { ImageError } from './image-error.ts';

/** 8-bit RGB, row-major: rgb holds height x width x 3 bytes. */
export interface RgbImage {
  readonly width: number;
  readonly height: number;
  readonly rgb: Uint8Array;
}

export interface ImageLimits {
  /** Of the file. */
  readonly maxBytes: number;
  /** Width x height once decoded. */
  readonly maxPixels: number;
}

/** Limits as large as the service ever allows. */
export const DEFAULT_IMAGE_LIMITS: ImageLimits = { maxBytes: 64 * 1024 * 1024, maxPixels: 64_000_000 };

/** Throws when the size that a header claims is impossible or above the limit: called before anything of that size is allocated. */
export function checkSize(type: string, width: number, height: number, limits: ImageLimits): void {
  if (!(width > 0 && height > 0))
    throw new ImageError('corrupt', `the ${type} picture claims a size of ${width}x${height}`);
  if (width * height > limits.maxPixels)
    throw new ImageError(
      'too_many_pixels',
      `the ${type} picture is ${width}x${height} = ${width * height} pixels; at most ${limits.maxPixels} are allowed`,
    );
}
