// A picture's file while it comes in by PutImage: room is made when its size is known, each piece is hashed when it is full.

import { createHash } from 'node:crypto';
import { status } from '@grpc/grpc-js';
import { RpcError } from '../rpc/status.ts';
import type { PutImageRequest } from '../gen/proto/internvl/v1/inference.ts';
import { CHUNK_BYTES, PictureFile } from './picture-file.ts';
import type { PictureStore, Upload } from './picture-store.ts';
import { invalid } from './refusal.ts';
import { checkFileSize } from './validate-picture.ts';

/** Of a message of gRPC, and of the fields before its chunk. */
const MOST_HEADER_BYTES = 32;

export class IncomingPicture {
  readonly #store: PictureStore;
  readonly #maxBytes: number;
  readonly #digest = createHash('sha256');
  /** All but the last are full, so that what it costs to hold a file does not depend on how it is cut. */
  readonly #pieces: Buffer[] = [];
  #upload: Upload | undefined;
  #size = 0;
  #received = 0;

  constructor(store: PictureStore, maxBytes: number) {
    this.#store = store;
    this.#maxBytes = maxBytes;
  }

  /** Throws RpcError. */
  add({ sizeBytes, chunk }: PutImageRequest): void {
    if (this.#upload === undefined) this.#begin(sizeBytes);
    if (chunk.length > CHUNK_BYTES)
      throw invalid(
        'chunk',
        String(chunk.length),
        String(CHUNK_BYTES),
        `a chunk of ${chunk.length} bytes came; at most ${CHUNK_BYTES} are taken in one message`,
        'CHUNK_TOO_LARGE',
      );
    if (this.#received + chunk.length > this.#size)
      throw this.#mismatch(`more than the ${this.#size} bytes announced came`);
    if (this.#isPiece(chunk)) this.#keep(chunk);
    else for (let taken = 0; taken < chunk.length;) taken += this.#fill(chunk.subarray(taken));
  }

  /** Keeps the file for the request that names it; `release` ends the waiting for one. Throws RpcError when it is not complete. */
  complete(): { readonly hash: string; readonly release: () => void } {
    if (this.#upload === undefined) throw this.#mismatch('the stream ended before its first message');
    if (this.#received < this.#size)
      throw this.#mismatch(`the stream ended after ${this.#received} of the ${this.#size} bytes announced`);
    const hash = this.#digest.digest('hex');
    const release = this.#upload.complete(hash, new PictureFile(this.#pieces));
    return { hash, release };
  }

  /** Gives its room back; not after `complete`. */
  abandon(): void {
    this.#upload?.abandon();
    this.#upload = undefined;
  }

  #begin(size: number): void {
    checkFileSize(size, 'size_bytes', this.#maxBytes, 'the picture');
    this.#upload = this.#store.beginUpload(size);
    if (this.#upload === undefined)
      throw new RpcError(
        status.RESOURCE_EXHAUSTED,
        'UPLOADS_FULL',
        `there is no room for ${size} bytes: uploads that no request has named yet hold ${this.#store.uploadBytes}, all pictures in use ${this.#store.pinnedBytes}`,
        { metadata: { value: String(this.#store.uploadBytes) }, retryAfterMs: 1_000 },
      );
    this.#size = size;
  }

  /** A whole piece, in memory of its own but for what stands before it in its message, can stay where it is. */
  #isPiece(chunk: Buffer): boolean {
    return (
      this.#received % CHUNK_BYTES === 0 &&
      chunk.length === CHUNK_BYTES &&
      chunk.buffer.byteLength <= CHUNK_BYTES + MOST_HEADER_BYTES
    );
  }

  #keep(piece: Buffer): void {
    this.#pieces.push(piece);
    this.#received += piece.length;
    this.#digest.update(piece);
  }

  /** Copies what fits into the piece being filled; returns how much. */
  #fill(bytes: Uint8Array): number {
    const at = this.#received % CHUNK_BYTES;
    if (at === 0)
      this.#pieces.push(Buffer.allocUnsafeSlow(Math.min(CHUNK_BYTES, this.#size - this.#received)));
    const piece = this.#pieces.at(-1)!;
    const taken = Math.min(bytes.length, piece.length - at);
    piece.set(bytes.subarray(0, taken), at);
    this.#received += taken;
    if (at + taken === piece.length) this.#digest.update(piece);
    return taken;
  }

  #mismatch(message: string): RpcError {
    return invalid('size_bytes', String(this.#received), String(this.#size), message, 'IMAGE_SIZE_MISMATCH');
  }
}
