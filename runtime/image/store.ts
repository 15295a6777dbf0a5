// Preprocessed pictures by the hash of their file, so that a picture crosses the wire and the decoder once. Bounded by bytes: the picture
// longest unused goes first, one that is acquired never goes.

import { createHash } from 'node:crypto';
import { ImageError } from './image-error.ts';
import type { PreprocessedImage } from './preprocess.ts';

interface Entry {
  readonly image: PreprocessedImage;
  pins: number;
}

interface Waiter {
  readonly resolve: (image: PreprocessedImage) => void;
  readonly reject: (error: Error) => void;
}

export interface ImageStoreOptions {
  /** Of pixels. */
  readonly maxBytes: number;
  /** Over all pictures; further acquisitions of pictures that are not there are refused. */
  readonly maxWaiters: number;
}

/** The address of a picture: lower-case hex SHA-256 of its file. */
export function hashImage(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

export class ImageStore {
  readonly #options: ImageStoreOptions;
  /** Least recently used first. */
  readonly #entries = new Map<string, Entry>();
  readonly #waiters = new Map<string, Set<Waiter>>();
  #bytes = 0;
  #waiterCount = 0;

  constructor(options: ImageStoreOptions) {
    this.#options = options;
  }

  get bytes(): number {
    return this.#bytes;
  }

  get waiters(): number {
    return this.#waiterCount;
  }

  has(hash: string): boolean {
    return this.#entries.has(hash);
  }

  /** Whether someone waits for the picture. */
  isAwaited(hash: string): boolean {
    return this.#waiters.has(hash);
  }

  /** Keeps a picture and hands it to those who wait for it. Throws ImageError when acquired pictures leave no room; the waiters get the same error. */
  put(hash: string, image: PreprocessedImage): void {
    const present = this.#entries.get(hash);
    if (present === undefined && !this.#makeRoom(image.pixels.byteLength)) {
      const error = new ImageError(
        'overloaded',
        `no room for a picture of ${image.pixels.byteLength} bytes: pictures in use fill the store of ${this.#options.maxBytes} bytes`,
      );
      this.fail(hash, error);
      throw error;
    }
    const entry = present ?? { image, pins: 0 };
    if (present === undefined) {
      this.#entries.set(hash, entry);
      this.#bytes += image.pixels.byteLength;
    }
    for (const waiter of this.#takeWaiters(hash)) {
      entry.pins++;
      waiter.resolve(entry.image);
    }
    this.#touch(hash, entry);
  }

  /** Ends the waiting for a picture that cannot be had. */
  fail(hash: string, error: Error): void {
    for (const waiter of this.#takeWaiters(hash)) waiter.reject(error);
  }

  /**
   * The picture, at once or when it is put; it stays until as many `release` calls as acquisitions. Rejects with signal's reason when aborted, with
   * the error given to `fail`, or with ImageError when too many wait.
   */
  acquire(hash: string, signal?: AbortSignal): Promise<PreprocessedImage> {
    if (signal?.aborted) return Promise.reject(signal.reason as Error);
    const entry = this.#entries.get(hash);
    if (entry !== undefined) {
      entry.pins++;
      this.#touch(hash, entry);
      return Promise.resolve(entry.image);
    }
    if (this.#waiterCount >= this.#options.maxWaiters)
      return Promise.reject(
        new ImageError(
          'overloaded',
          `${this.#waiterCount} requests already wait for pictures; try again later`,
        ),
      );
    return new Promise((resolve, reject) => {
      const onAbort = (): void => {
        this.#removeWaiter(hash, waiter);
        reject(signal?.reason as Error);
      };
      const waiter: Waiter = {
        resolve: (image) => {
          signal?.removeEventListener('abort', onAbort);
          resolve(image);
        },
        reject: (error) => {
          signal?.removeEventListener('abort', onAbort);
          reject(error);
        },
      };
      signal?.addEventListener('abort', onAbort, { once: true });
      this.#addWaiter(hash, waiter);
    });
  }

  /** Takes one acquisition back; throws RangeError when there is none. */
  release(hash: string): void {
    const entry = this.#entries.get(hash);
    if (entry === undefined || entry.pins === 0) throw new RangeError(`image ${hash} is not acquired`);
    entry.pins--;
  }

  /** Evicts until `bytes` more fit; whether they do. */
  #makeRoom(bytes: number): boolean {
    let free = this.#options.maxBytes - this.#bytes;
    const victims: string[] = [];
    for (const [hash, entry] of this.#entries) {
      if (free >= bytes) break;
      if (entry.pins > 0) continue;
      victims.push(hash);
      free += entry.image.pixels.byteLength;
    }
    if (free < bytes) return false;
    for (const hash of victims) this.#entries.delete(hash);
    this.#bytes = this.#options.maxBytes - free;
    return true;
  }

  #touch(hash: string, entry: Entry): void {
    this.#entries.delete(hash);
    this.#entries.set(hash, entry);
  }

  #addWaiter(hash: string, waiter: Waiter): void {
    const waiters = this.#waiters.get(hash);
    if (waiters === undefined) this.#waiters.set(hash, new Set([waiter]));
    else waiters.add(waiter);
    this.#waiterCount++;
  }

  #removeWaiter(hash: string, waiter: Waiter): void {
    const waiters = this.#waiters.get(hash);
    if (waiters?.delete(waiter) !== true) return;
    this.#waiterCount--;
    if (waiters.size === 0) this.#waiters.delete(hash);
  }

  #takeWaiters(hash: string): ReadonlySet<Waiter> {
    const waiters = this.#waiters.get(hash) ?? new Set<Waiter>();
    this.#waiters.delete(hash);
    this.#waiterCount -= waiters.size;
    return waiters;
  }
}
