import { closeSync, fstatSync, openSync, renameSync, writeSync } from 'node:fs';

/** A log file of bounded size: when it is full, it becomes `<path>.1` in place of the one before, and a new one begins. */
export class RotatingFile {
  readonly path: string;
  readonly #maxBytes: number;
  #descriptor: number;
  #bytes: number;

  constructor(path: string, maxBytes = 16 * 2 ** 20) {
    this.path = path;
    this.#maxBytes = maxBytes;
    this.#descriptor = openSync(path, 'a');
    this.#bytes = fstatSync(this.#descriptor).size;
  }

  write(chunk: Buffer): void {
    if (this.#bytes + chunk.length > this.#maxBytes && this.#bytes > 0) {
      closeSync(this.#descriptor);
      renameSync(this.path, `${this.path}.1`);
      this.#descriptor = openSync(this.path, 'a');
      this.#bytes = 0;
    }
    this.#bytes += writeSync(this.#descriptor, chunk);
  }

  close(): void {
    closeSync(this.#descriptor);
  }
}
