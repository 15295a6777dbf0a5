import { preprocessImage } from '../runtime/image/preprocess.ts';
import { DEFAULT_IMAGE_LIMITS } from '../runtime/image/rgb-image.ts';
import { native } from '../runtime/native/index.ts';
import { readModelConfig } from './read-model-config.ts';

/** A picture's file as the square RGB bytes that a checkpoint's vision tower takes; `size` is the side in pixels. Throws ImageError. */
export async function preprocess(
  directory: string,
  file: Uint8Array,
): Promise<{ rgb: Uint8Array; size: number }> {
  const { imageSize } = (await readModelConfig(directory)).vision;
  const { pixels } = await preprocessImage(file, imageSize, DEFAULT_IMAGE_LIMITS, native());
  return { rgb: pixels, size: imageSize };
}
