// What a file is by its first bytes: names and media types that come with it are not believed.

export type ImageType = 'JPEG' | 'PNG' | 'WebP' | 'GIF' | 'BMP' | 'TIFF';

export const IMAGE_TYPES: readonly ImageType[] = ['JPEG', 'PNG', 'WebP', 'GIF', 'BMP', 'TIFF'];

/** The type of a picture that can be decoded; undefined for anything else. */
export function sniffImageType(bytes: Uint8Array): ImageType | undefined {
  if (startsWith(bytes, '\xff\xd8\xff')) return 'JPEG';
  if (startsWith(bytes, '\x89PNG\r\n\x1a\n')) return 'PNG';
  if (startsWith(bytes, 'RIFF') && startsWith(bytes, 'WEBP', 8)) return 'WebP';
  if (startsWith(bytes, 'GIF87a') || startsWith(bytes, 'GIF89a')) return 'GIF';
  if (startsWith(bytes, 'II*\0') || startsWith(bytes, 'MM\0*')) return 'TIFF';
  if (startsWith(bytes, 'BM')) return 'BMP';
  return undefined;
}

/** What a file that is no supported picture seems to be, for the error. */
export function describeOther(bytes: Uint8Array): string {
  if (startsWith(bytes, '%PDF')) return 'a PDF document';
  if (startsWith(bytes, 'PK\x03\x04')) return 'a ZIP archive';
  if (startsWith(bytes, 'ftyp', 4))
    return /avif|avis/.test(latin1(bytes, 8, 24)) ? 'an AVIF picture' : 'an HEIF picture or MP4 video';
  if (startsWith(bytes, '\0\0\x01\0')) return 'an ICO icon';
  const beginning = latin1(bytes, 0, 512);
  if (/<svg[\s>]/i.test(beginning)) return 'an SVG drawing';
  if (/<html|<!doctype html/i.test(beginning)) return 'an HTML page';
  // oxlint-disable-next-line no-control-regex -- control characters are what tells text from data
  if (!/[\0-\x08\x0e-\x1f]/.test(beginning)) return 'text';
  return 'of no known picture type';
}

function startsWith(bytes: Uint8Array, text: string, at = 0): boolean {
  if (bytes.length < at + text.length) return false;
  for (let i = 0; i < text.length; i++) if (bytes[at + i] !== text.charCodeAt(i)) return false;
  return true;
}

function latin1(bytes: Uint8Array, start: number, end: number): string {
  return Buffer.from(bytes.subarray(start, end)).toString('latin1');
}
