// Pictures by the SHA-256 of their file: those that requests in flight need, and some recent ones, so that a client can name a picture
// instead of sending it again.

import { createHash } from 'node:crypto';

export interface PictureStoreLimits {
  /** Bytes that requests in flight may hold. */
  readonly maxPinnedBytes: number;
  /** Bytes of pictures kept that no request needs. */
  readonly maxCachedBytes: number;
}

interface Picture {
  readonly data: Uint8Array;
  pins: number;
}

/** Pinned pictures stay; unpinned ones go, least recently used first, when they are too many. */
export class PictureStore {
  readonly #limits: PictureStoreLimits;
  readonly #pictures = new Map<string, Picture>();
  readonly #hashOf: (data: Uint8Array) => string | undefined;
  #pinnedBytes = 0;
  #cachedBytes = 0;

  /** hashOf: the hash of a file for which it is known already. */
  constructor(
    limits: PictureStoreLimits,
    hashOf: (data: Uint8Array) => string | undefined = () => undefined,
  ) {
    this.#limits = limits;
    this.#hashOf = hashOf;
  }

  get pinnedBytes(): number {
    return this.#pinnedBytes;
  }

  get cachedBytes(): number {
    return this.#cachedBytes;
  }

  /** Keeps a file for one request and returns its hash; undefined when pinned pictures already fill the memory set aside. */
  add(data: Uint8Array): string | undefined {
    const hash = this.#hashOf(data) ?? createHash('sha256').update(data).digest('hex');
    if (this.#pictures.has(hash)) return this.pin(hash) ? hash : undefined;
    if (this.#pinnedBytes + data.length > this.#limits.maxPinnedBytes) return undefined;
    this.#pictures.set(hash, { data, pins: 1 });
    this.#pinnedBytes += data.length;
    return hash;
  }

  has(hash: string): boolean {
    return this.#pictures.has(hash);
  }

  /** The file, if it is held. */
  data(hash: string): Uint8Array | undefined {
    return this.#pictures.get(hash)?.data;
  }

  /** Keeps a picture for one more request; false when it is not held, or pinned pictures already fill the memory set aside. */
  pin(hash: string): boolean {
    const picture = this.#pictures.get(hash);
    if (picture === undefined) return false;
    if (picture.pins === 0) {
      if (this.#pinnedBytes + picture.data.length > this.#limits.maxPinnedBytes) return false;
      this.#cachedBytes -= picture.data.length;
      this.#pinnedBytes += picture.data.length;
    }
    picture.pins++;
    return true;
  }

  unpin(hash: string): void {
    const picture = this.#pictures.get(hash);
    if (picture === undefined || picture.pins === 0) throw new Error(`picture ${hash} is not pinned`);
    if (--picture.pins > 0) return;
    this.#pinnedBytes -= picture.data.length;
    this.#cachedBytes += picture.data.length;
    // To the end: it is the most recently used one.
    this.#pictures.delete(hash);
    this.#pictures.set(hash, picture);
    this.#evict();
  }

  #evict(): void {
    for (const [hash, picture] of this.#pictures) {
      if (this.#cachedBytes <= this.#limits.maxCachedBytes) return;
      if (picture.pins > 0) continue;
      this.#pictures.delete(hash);
      this.#cachedBytes -= picture.data.length;
    }
  }
}
