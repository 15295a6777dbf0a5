// A sequence holds its pictures from the step of their first row that it computes to that of their last.

import type { EncodedImages } from './encoded-images.ts';
import type { Sequence, SequenceImage } from './sequence.ts';

/** Token `at` is a row of a picture that cannot be encoded in this step. */
export function waitsForImage(images: EncodedImages, sequence: Sequence, at: number): boolean {
  const image = sequence.images.find(({ offset, length }) => offset <= at && at < offset + length);
  return image !== undefined && image.encoded === undefined && !images.canAcquire(image.key);
}

/** Acquires the pictures with rows in [numComputed, end); returns the end, or the offset of the first picture that must wait. */
export function holdImages(images: EncodedImages, sequence: Sequence, end: number): number {
  for (const image of sequence.images) {
    if (image.offset >= end) break;
    if (image.offset + image.length <= sequence.numComputed || image.encoded !== undefined) continue;
    image.encoded = images.acquire(image.key, image.pixels);
    if (image.encoded === undefined) return image.offset;
  }
  return end;
}

/** Gives up the pictures that end at or before token `end`. */
export function releaseImages(images: EncodedImages, sequence: Sequence, end: number): void {
  for (const image of sequence.images) if (image.offset + image.length <= end) releaseImage(images, image);
}

function releaseImage(images: EncodedImages, image: SequenceImage): void {
  if (image.encoded === undefined) return;
  images.release(image.encoded);
  image.encoded = undefined;
}
