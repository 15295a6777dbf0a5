// Cuts a body into messages. One that is too large is refused by its length, before any of it is kept; memory for one that comes in parts grows
// with what has come, since a length is quickly claimed.

import type { ReceiveBudget } from './receive-budget.ts';

const PREFIX_BYTES = 5;
/** The first memory for a message that comes in parts: a piece of a file fits in whole. */
const FIRST_BYTES = 256 * 1024 + 64;
const GROWTH = 4;

/** Why a body cannot be read on. */
export type BodyFault =
  | { readonly kind: 'too large'; readonly bytes: number }
  | { readonly kind: 'bad flag'; readonly flag: number }
  | { readonly kind: 'no room' };

export interface MessageReaderOptions {
  readonly mostBytes: number;
  readonly budget: ReceiveBudget;
  /** May keep the message. */
  readonly take: (message: Buffer, compressed: boolean) => void;
  /** Nothing comes after it. */
  readonly refuse: (fault: BodyFault) => void;
}

export class MessageReader {
  readonly #options: MessageReaderOptions;
  #flag = 0;
  #length = 0;
  #prefixBytes = 0;
  /** A message of which only the beginning has come. */
  #message: Buffer | undefined;
  #messageBytes = 0;
  #closed = false;

  constructor(options: MessageReaderOptions) {
    this.#options = options;
  }

  /** The body ends between two messages. */
  get complete(): boolean {
    return this.#prefixBytes === 0;
  }

  push(bytes: Buffer, start: number, end: number): void {
    let at = start;
    while (at < end && !this.#closed) {
      if (this.#prefixBytes < PREFIX_BYTES) {
        const byte = bytes[at++]!;
        if (this.#prefixBytes === 0) this.#flag = byte;
        else this.#length = ((this.#length << 8) | byte) >>> 0;
        if (++this.#prefixBytes < PREFIX_BYTES) continue;
        if (!this.#prefixIsGood()) return;
        if (this.#length > 0) continue;
      }
      at = this.#fill(bytes, at, end);
    }
  }

  /** Forgets what has come. */
  close(): void {
    this.#closed = true;
    this.#drop();
  }

  #prefixIsGood(): boolean {
    if (this.#flag > 1) this.#refuse({ kind: 'bad flag', flag: this.#flag });
    else if (this.#length > this.#options.mostBytes) this.#refuse({ kind: 'too large', bytes: this.#length });
    return !this.#closed;
  }

  /** Takes what is there of the message; returns how far it read. */
  #fill(bytes: Buffer, at: number, end: number): number {
    const length = this.#length;
    if (this.#message === undefined && end - at >= length) {
      // Whole: a copy, as the bytes are the connection's and a message may be kept for long.
      this.#give(Buffer.from(bytes.subarray(at, at + length)));
      return at + length;
    }
    const count = Math.min(length - this.#messageBytes, end - at);
    if (!this.#grow(this.#messageBytes + count)) {
      this.#refuse({ kind: 'no room' });
      return end;
    }
    const message = this.#message!;
    bytes.copy(message, this.#messageBytes, at, at + count);
    this.#messageBytes += count;
    if (this.#messageBytes === length) {
      this.#options.budget.release(length);
      this.#message = undefined;
      this.#give(message);
    }
    return at + count;
  }

  /** Makes room for so many bytes of the message, of its very size in the end. */
  #grow(least: number): boolean {
    const before = this.#message;
    if (before !== undefined && before.length >= least) return true;
    const bytes = Math.min(this.#length, Math.max(FIRST_BYTES, least * GROWTH));
    if (!this.#options.budget.take(bytes - (before?.length ?? 0))) return false;
    this.#message = Buffer.allocUnsafeSlow(bytes);
    before?.copy(this.#message, 0, 0, this.#messageBytes);
    return true;
  }

  #give(message: Buffer): void {
    const compressed = this.#flag === 1;
    this.#prefixBytes = 0;
    this.#length = 0;
    this.#messageBytes = 0;
    this.#options.take(message, compressed);
  }

  #refuse(fault: BodyFault): void {
    this.close();
    this.#options.refuse(fault);
  }

  #drop(): void {
    if (this.#message !== undefined) this.#options.budget.release(this.#message.length);
    this.#message = undefined;
  }
}
