// A picture as a client may give it: its file, a data: URL of it, or the hash of one sent before. Sizes are compared before anything is
// decoded or hashed.

import type { RpcError } from '../rpc/status.ts';
import type { Image } from '../gen/proto/internvl/v1/inference.ts';
import { invalid } from './refusal.ts';

/** A picture's file, or the hash of one sent before. */
export type PictureSource = { readonly data: Uint8Array } | { readonly hash: string };

/** Throws INVALID_ARGUMENT naming `field`. */
export function checkPicture({ source }: Image, field: string, maxBytes: number): PictureSource {
  if (source === undefined) {
    throw invalid(field, '', 'data, url or hash', `${field} has no source: set data, url or hash`);
  }
  if (source.$case === 'hash') return { hash: checkHash(source.value, `${field}.hash`) };
  const data = source.$case === 'url' ? pictureFromUrl(source.value, field, maxBytes) : source.value;
  checkFileSize(data.length, field, maxBytes);
  return { data };
}

function checkHash(hash: string, field: string): string {
  if (/^[0-9a-f]{64}$/.test(hash)) return hash;
  throw invalid(
    field,
    hash.slice(0, 80),
    '64 lower-case hex digits',
    `${field} is not a SHA-256 in lower-case hex`,
  );
}

/** Throws INVALID_ARGUMENT naming `field` when no picture's file may have so many bytes. */
export function checkFileSize(size: number, field: string, maxBytes: number, name = field): void {
  if (size === 0) throw invalid(field, '0', '> 0', `${name} is an empty file`, 'EMPTY_IMAGE');
  checkSize(size, field, maxBytes, name);
}

function checkSize(size: number, field: string, maxBytes: number, name = field): void {
  if (size <= maxBytes) return;
  throw invalid(
    field,
    String(size),
    String(maxBytes),
    `${name} is a file of ${size} bytes; at most ${maxBytes} are allowed`,
    'IMAGE_TOO_LARGE',
  );
}

/** The file in a data: URL; throws INVALID_ARGUMENT naming `field`. */
export function pictureFromUrl(url: string, field: string, maxBytes: number): Buffer {
  if (!/^data:/i.test(url)) throw refusedScheme(url, `${field}.url`);
  const comma = url.indexOf(',');
  if (comma < 0 || !/;base64$/i.test(url.slice(0, comma))) {
    throw invalid(
      `${field}.url`,
      url.slice(0, 40),
      'data:<type>;base64,<data>',
      `${field}.url is not a base64 data: URL (data:<type>;base64,<data>)`,
    );
  }
  const text = url.slice(comma + 1);
  // Two characters at the end may be padding.
  checkSize(Math.floor((text.length * 3) / 4) - 2, field, maxBytes);
  // Buffer.from skips what is no base64: a broken URL would become a broken picture.
  if (!/^[A-Za-z0-9+/]*={0,2}$/.test(text)) {
    throw invalid(
      `${field}.url`,
      url.slice(0, 40),
      'base64',
      `${field}.url holds characters that are not base64`,
    );
  }
  return Buffer.from(text, 'base64');
}

function refusedScheme(url: string, field: string): RpcError {
  const scheme = /^([a-z][a-z0-9+.-]*):/i.exec(url)?.[1]?.toLowerCase() ?? 'none';
  return invalid(
    field,
    scheme.slice(0, 40),
    'data',
    `${field} has the scheme '${scheme.slice(0, 40)}': only data: URLs are taken, the server fetches nothing on a client's behalf`,
    'IMAGE_URL_SCHEME',
  );
}
