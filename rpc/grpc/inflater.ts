// Compressed messages, one at a time for all calls of a server: a few bytes may become a message of the largest size, and of those one has
// to fit into memory, not one for each of a client's streams.

import { promisify } from 'node:util';
import { gunzip } from 'node:zlib';

const inflate = promisify(gunzip);

export class Inflater {
  readonly #mostBytes: number;
  #last: Promise<unknown> = Promise.resolve();

  /** Messages that would become larger are refused. */
  constructor(mostBytes: number) {
    this.#mostBytes = mostBytes;
  }

  /** Rejects when they are no gzip, or too large: then with the code ERR_BUFFER_TOO_LARGE. */
  inflate(bytes: Buffer): Promise<Buffer> {
    const inflated = this.#last.then(() => inflate(bytes, { maxOutputLength: this.#mostBytes }));
    this.#last = inflated.catch(() => undefined);
    return inflated;
  }
}
