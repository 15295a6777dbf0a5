// A picture's file as the router holds it: whole, as it came in a request, or in the pieces of an upload. Nothing ever joins those.

/** What one message carries of a file. */
export const CHUNK_BYTES = 256 * 1024;

/** The pieces must not change any more. */
export class PictureFile {
  readonly length: number;
  readonly #pieces: readonly Uint8Array[];

  constructor(pieces: readonly Uint8Array[]) {
    this.#pieces = pieces;
    this.length = pieces.reduce((sum, piece) => sum + piece.length, 0);
  }

  /** Its bytes in order, at most CHUNK_BYTES at a time, without a copy. */
  *chunks(): Generator<Uint8Array, void> {
    for (const piece of this.#pieces) {
      for (let offset = 0; offset < piece.length; offset += CHUNK_BYTES)
        yield piece.subarray(offset, offset + CHUNK_BYTES);
    }
  }
}
