// The pictures of a replica: preprocessed pixels by the hash of their file, taken in through PutImage. Who waits for one is told when it
// is there.

import { status } from '@grpc/grpc-js';
import type { ServerReadableStream } from '@grpc/grpc-js';
import { createHash } from 'node:crypto';
import type { PutImageRequest, PutImageResponse } from '../../gen/proto/internvl/engine/v1/engine.ts';
import { RpcError } from '../../rpc/status.ts';
import type { ImagePool } from '../image/pool.ts';
import type { ImageStore } from '../image/store.ts';

const REASONS: Readonly<Record<string, readonly [status, string]>> = {
  unsupported_type: [status.INVALID_ARGUMENT, 'IMAGE_UNSUPPORTED'],
  corrupt: [status.INVALID_ARGUMENT, 'IMAGE_CORRUPT'],
  too_many_pixels: [status.INVALID_ARGUMENT, 'IMAGE_TOO_LARGE'],
  too_large: [status.INVALID_ARGUMENT, 'IMAGE_TOO_LARGE'],
  overloaded: [status.RESOURCE_EXHAUSTED, 'IMAGE_QUEUE_FULL'],
};

/** What a failure to prepare a picture means to the caller; unknown errors are passed through. */
export function pictureError(err: unknown): unknown {
  if (!(err instanceof Error) || !('code' in err) || typeof err.code !== 'string') return err;
  const known = REASONS[err.code];
  return known === undefined ? err : new RpcError(known[0], known[1], err.message, { cause: err });
}

/** Uploads that may be under way at once: each holds up to maxImageBytes. */
const MAX_UPLOADS = 8;

/** Takes pictures in and holds them. */
export class Pictures {
  readonly #store: ImageStore;
  readonly #pool: Pick<ImagePool, 'preprocess'>;
  readonly #maxImageBytes: number;
  #uploads = 0;

  constructor(store: ImageStore, pool: Pick<ImagePool, 'preprocess'>, maxImageBytes: number) {
    this.#store = store;
    this.#pool = pool;
    this.#maxImageBytes = maxImageBytes;
  }

  has(hash: string): boolean {
    return this.#store.has(hash);
  }

  /** The pixels of all the pictures, in order, once every one is there. Rejects when one cannot be had or the signal aborts. */
  async gather(hashes: readonly string[], signal: AbortSignal): Promise<Uint8Array[]> {
    const found = await Promise.allSettled(hashes.map((hash) => this.#store.acquire(hash, signal)));
    // Held no longer than until all are there: the pixels that are handed out live on by themselves.
    for (const [index, result] of found.entries()) {
      if (result.status === 'fulfilled') this.#store.release(hashes[index]!);
    }
    return found.map((result) => {
      if (result.status === 'fulfilled') return result.value.pixels;
      throw result.reason;
    });
  }

  /** PutImage: reads, verifies and prepares one picture. Throws RpcError. */
  async put(call: ServerReadableStream<PutImageRequest, PutImageResponse>): Promise<PutImageResponse> {
    if (this.#uploads >= MAX_UPLOADS) {
      throw new RpcError(
        status.RESOURCE_EXHAUSTED,
        'IMAGE_QUEUE_FULL',
        `${MAX_UPLOADS} pictures are being received already`,
        { retryAfterMs: 500 },
      );
    }
    this.#uploads += 1;
    try {
      const { hash, file } = await readUpload(call, this.#maxImageBytes);
      try {
        const picture = await this.#pool.preprocess(file);
        this.#store.put(hash, { ...picture, pixels: shared(picture.pixels) });
        return { width: picture.width, height: picture.height };
      } catch (err) {
        this.#store.fail(hash, err instanceof Error ? err : new Error(String(err)));
        throw pictureError(err);
      }
    } finally {
      this.#uploads -= 1;
    }
  }
}

/** A copy in shared memory: every submission of the picture crosses to the engine thread without another. */
function shared(pixels: Uint8Array): Uint8Array {
  const copy = new Uint8Array(new SharedArrayBuffer(pixels.byteLength));
  copy.set(pixels);
  return copy;
}

interface Upload {
  readonly hash: string;
  readonly file: Uint8Array;
}

/** Collects the chunks of one picture; the first message must state hash and size, and a size over the limit ends the call before the rest is read. */
function readUpload(
  call: ServerReadableStream<PutImageRequest, PutImageResponse>,
  maxBytes: number,
): Promise<Upload> {
  return new Promise((resolve, reject) => {
    let hash = '';
    let file: Buffer | undefined;
    let filled = 0;
    const refuse = (reason: string, message: string, metadata: Record<string, string> = {}): void => {
      call.removeAllListeners('data');
      call.pause();
      reject(new RpcError(status.INVALID_ARGUMENT, reason, message, { metadata }));
    };
    call.on('data', (message: PutImageRequest) => {
      if (file === undefined) {
        const size = message.sizeBytes;
        if (message.hash.length !== 32) {
          refuse(
            'INVALID_IMAGE_HASH',
            `the first message has a hash of ${message.hash.length} bytes: SHA-256 has 32`,
          );
          return;
        }
        if (size === 0 || size > maxBytes) {
          refuse('IMAGE_TOO_LARGE', `the picture has ${size} bytes: 1 to ${maxBytes} are taken`, {
            limit: String(maxBytes),
            size: String(size),
          });
          return;
        }
        hash = message.hash.toString('hex');
        file = Buffer.allocUnsafeSlow(size);
      }
      if (filled + message.chunk.length > file.length) {
        refuse('IMAGE_SIZE_MISMATCH', `more bytes came than the ${file.length} announced`);
        return;
      }
      file.set(message.chunk, filled);
      filled += message.chunk.length;
    });
    call.on('end', () => {
      if (file === undefined) refuse('INVALID_IMAGE_HASH', 'no message came');
      else if (filled < file.length) {
        refuse('IMAGE_SIZE_MISMATCH', `${filled} bytes came of the ${file.length} announced`);
      } else if (createHash('sha256').update(file).digest('hex') !== hash) {
        refuse('IMAGE_HASH_MISMATCH', `the SHA-256 of the bytes that came is not ${hash}`);
      } else resolve({ hash, file });
    });
    const cancelled = (): void =>
      reject(new RpcError(status.CANCELLED, 'CANCELLED', 'the upload was cancelled'));
    call.on('cancelled', cancelled);
    call.on('error', reject);
  });
}
