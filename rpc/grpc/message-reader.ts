// Cuts a request's body into messages. One that is too large is refused by its length, before any of it is kept.

const PREFIX_BYTES = 5;

/** Why a body cannot be read on. */
export type BodyFault =
  | { readonly kind: 'too large'; readonly bytes: number }
  | { readonly kind: 'bad flag'; readonly flag: number };

export class MessageReader {
  readonly #mostBytes: number;
  readonly #take: (message: Buffer, compressed: boolean) => void;
  readonly #refuse: (fault: BodyFault) => void;
  readonly #prefix = new Uint8Array(PREFIX_BYTES);
  #prefixBytes = 0;
  #length = 0;
  /** A message of which only the beginning has come. */
  #message: Buffer | undefined;
  #messageBytes = 0;
  #refused = false;

  /** `take` may keep the messages, but for `refuse`, after which nothing comes. */
  constructor(
    mostBytes: number,
    take: (message: Buffer, compressed: boolean) => void,
    refuse: (fault: BodyFault) => void,
  ) {
    this.#mostBytes = mostBytes;
    this.#take = take;
    this.#refuse = refuse;
  }

  /** The body ends between two messages. */
  get complete(): boolean {
    return this.#prefixBytes === 0;
  }

  push(bytes: Buffer, start: number, end: number): void {
    let at = start;
    while (at < end && !this.#refused) {
      if (this.#prefixBytes < PREFIX_BYTES) {
        this.#prefix[this.#prefixBytes++] = bytes[at++]!;
        if (this.#prefixBytes < PREFIX_BYTES) continue;
        if (!this.#checkPrefix()) return;
        if (this.#length > 0) continue;
      }
      at = this.#fill(bytes, at, end);
    }
  }

  #checkPrefix(): boolean {
    const [flag, a, b, c, d] = this.#prefix as unknown as [number, number, number, number, number];
    this.#length = ((a << 24) | (b << 16) | (c << 8) | d) >>> 0;
    let fault: BodyFault | undefined;
    if (flag > 1) fault = { kind: 'bad flag', flag };
    else if (this.#length > this.#mostBytes) fault = { kind: 'too large', bytes: this.#length };
    if (fault === undefined) return true;
    this.#refused = true;
    this.#refuse(fault);
    return false;
  }

  /** Takes what is there of the message; returns how far it read. */
  #fill(bytes: Buffer, at: number, end: number): number {
    const length = this.#length;
    if (this.#message === undefined && end - at >= length) {
      // Whole: a copy, as the buffer is the socket's and a message may be kept for long.
      this.#give(Buffer.from(bytes.subarray(at, at + length)));
      return at + length;
    }
    // Memory of its own and of its size: what is joined here nobody has to join later.
    this.#message ??= Buffer.allocUnsafeSlow(length);
    const count = Math.min(length - this.#messageBytes, end - at);
    bytes.copy(this.#message, this.#messageBytes, at, at + count);
    this.#messageBytes += count;
    if (this.#messageBytes === length) this.#give(this.#message);
    return at + count;
  }

  #give(message: Buffer): void {
    const compressed = this.#prefix[0] === 1;
    this.#prefixBytes = 0;
    this.#message = undefined;
    this.#messageBytes = 0;
    this.#take(message, compressed);
  }
}
