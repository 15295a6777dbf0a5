/** Splits a byte stream into lines of text; a line longer than `maxLength` is cut there. */
export class LineSplitter {
  readonly #onLine: (line: string) => void;
  readonly #maxLength: number;
  readonly #decoder = new TextDecoder();
  #rest = '';

  constructor(onLine: (line: string) => void, maxLength = 65_536) {
    this.#onLine = onLine;
    this.#maxLength = maxLength;
  }

  push(chunk: Uint8Array): void {
    const lines = (this.#rest + this.#decoder.decode(chunk, { stream: true })).split('\n');
    this.#rest = (lines.pop() ?? '').slice(0, this.#maxLength);
    for (const line of lines) this.#onLine(line.slice(0, this.#maxLength));
  }

  end(): void {
    if (this.#rest !== '') this.#onLine(this.#rest);
    this.#rest = '';
  }
}
