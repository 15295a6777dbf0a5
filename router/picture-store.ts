// Pictures by the SHA-256 of their file: those that requests in flight need, those that were uploaded and wait for a request to name them,
// and some recent ones, so that a client can name a picture instead of sending it again.

import { createHash } from 'node:crypto';
import { PictureFile } from './picture-file.ts';

export interface PictureStoreLimits {
  /** Bytes that requests in flight and uploads may hold. */
  readonly maxPinnedBytes: number;
  /** Of these, what uploads may hold that no request has named yet: the rest is there for requests whatever is uploaded. */
  readonly maxUploadBytes: number;
  /** Bytes of pictures kept that no request needs. */
  readonly maxCachedBytes: number;
}

interface Picture {
  readonly file: PictureFile;
  pins: number;
  /** Set while one of the pins is for whoever names it first: by which upload. */
  awaited: symbol | undefined;
}

/** Room for a file that is coming in. Ends once, with either of: */
export interface Upload {
  /** Keeps the file under its hash for the first request that names it; returns what ends the waiting for one. */
  complete(hash: string, file: PictureFile): () => void;
  /** Gives the room back. */
  abandon(): void;
}

/** Pinned pictures stay; unpinned ones go, least recently used first, when they are too many. */
export class PictureStore {
  readonly #limits: PictureStoreLimits;
  readonly #pictures = new Map<string, Picture>();
  readonly #hashOf: (data: Uint8Array) => string | undefined;
  #pinnedBytes = 0;
  #uploadBytes = 0;
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

  /** Of pinnedBytes, those of files that are coming in or wait to be named. */
  get uploadBytes(): number {
    return this.#uploadBytes;
  }

  get cachedBytes(): number {
    return this.#cachedBytes;
  }

  /** Keeps a file for one request and returns its hash; undefined when pinned pictures already fill the memory set aside. */
  add(data: Uint8Array): string | undefined {
    const hash = this.#hashOf(data) ?? createHash('sha256').update(data).digest('hex');
    if (this.#pictures.has(hash)) return this.pin(hash) ? hash : undefined;
    if (this.#pinnedBytes + data.length > this.#limits.maxPinnedBytes) return undefined;
    this.#pictures.set(hash, { file: new PictureFile([data]), pins: 1, awaited: undefined });
    this.#pinnedBytes += data.length;
    return hash;
  }

  /** Makes room for a file of so many bytes; undefined when there is none. */
  beginUpload(bytes: number): Upload | undefined {
    const { maxPinnedBytes, maxUploadBytes } = this.#limits;
    if (this.#uploadBytes + bytes > maxUploadBytes || this.#pinnedBytes + bytes > maxPinnedBytes)
      return undefined;
    this.#pinnedBytes += bytes;
    this.#uploadBytes += bytes;
    const abandon = (): void => {
      this.#pinnedBytes -= bytes;
      this.#uploadBytes -= bytes;
    };
    return { abandon, complete: (hash, file) => this.#await(hash, file, abandon) };
  }

  has(hash: string): boolean {
    return this.#pictures.has(hash);
  }

  /** The file, if it is held. */
  file(hash: string): PictureFile | undefined {
    return this.#pictures.get(hash)?.file;
  }

  /** Keeps a picture for one more request; false when it is not held, or pinned pictures already fill the memory set aside. */
  pin(hash: string): boolean {
    const picture = this.#pictures.get(hash);
    if (picture === undefined) return false;
    if (this.#endWait(picture)) return true;
    if (picture.pins === 0) {
      if (this.#pinnedBytes + picture.file.length > this.#limits.maxPinnedBytes) return false;
      this.#cachedBytes -= picture.file.length;
      this.#pinnedBytes += picture.file.length;
    }
    picture.pins++;
    return true;
  }

  unpin(hash: string): void {
    const picture = this.#pictures.get(hash);
    if (picture === undefined || picture.pins === 0) throw new Error(`picture ${hash} is not pinned`);
    if (--picture.pins > 0) return;
    this.#pinnedBytes -= picture.file.length;
    this.#cachedBytes += picture.file.length;
    // To the end: it is the most recently used one.
    this.#pictures.delete(hash);
    this.#pictures.set(hash, picture);
    this.#evict();
  }

  #await(hash: string, file: PictureFile, giveBack: () => void): () => void {
    let picture = this.#pictures.get(hash);
    if (picture === undefined) {
      // The room that was made for it is now its own.
      picture = { file, pins: 1, awaited: undefined };
      this.#pictures.set(hash, picture);
    } else {
      giveBack();
      if (picture.awaited === undefined) {
        this.pin(hash);
        this.#uploadBytes += file.length;
      }
    }
    const upload = Symbol(hash);
    picture.awaited = upload;
    return () => {
      if (picture.awaited === upload && this.#endWait(picture)) this.unpin(hash);
    };
  }

  /** True when the picture was awaited: its pin is the caller's now. */
  #endWait(picture: Picture): boolean {
    if (picture.awaited === undefined) return false;
    picture.awaited = undefined;
    this.#uploadBytes -= picture.file.length;
    return true;
  }

  #evict(): void {
    for (const [hash, picture] of this.#pictures) {
      if (this.#cachedBytes <= this.#limits.maxCachedBytes) return;
      if (picture.pins > 0) continue;
      this.#pictures.delete(hash);
      this.#cachedBytes -= picture.file.length;
    }
  }
}
