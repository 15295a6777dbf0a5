// Cuts a body into messages. One that is too large is refused by its length, before any of it is kept. A large one that comes in parts lies in
// pieces: memory is taken for what has come, since a length is quickly claimed, and nothing is copied twice.

import type { ReceiveBudget } from './receive-budget.ts';

const PREFIX_BYTES = 5;
/** Of a message that comes in parts, all pieces but the last: a message with a piece of a file is one. */
export const PIECE_BYTES = 256 * 1024 + 64;

/** The bytes of a message in order, in one piece or more. */
export type Pieces = readonly Buffer[];

/** In one piece: a copy, unless that is what it was. */
export function joined(pieces: Pieces): Buffer {
  return pieces.length === 1 ? pieces[0]! : Buffer.concat(pieces);
}

/** Why a body cannot be read on. */
export type BodyFault =
  | { readonly kind: 'too large'; readonly bytes: number }
  | { readonly kind: 'bad flag'; readonly flag: number }
  | { readonly kind: 'no room' };

export interface MessageReaderOptions {
  readonly mostBytes: number;
  readonly budget: ReceiveBudget;
  /** May keep the pieces of the message, each in memory of its own. */
  readonly take: (message: Pieces, compressed: boolean) => void;
  /** Nothing comes after it. */
  readonly refuse: (fault: BodyFault) => void;
}

export class MessageReader {
  readonly #options: MessageReaderOptions;
  #flag = 0;
  #length = 0;
  #prefixBytes = 0;
  /** Of a message of which only the beginning has come; there is room left in the last one alone. */
  #pieces: Buffer[] = [];
  #pieceBytes = 0;
  /** Of the message, in all pieces. */
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

  /** Takes what is there of the message, at most what fits into a piece; returns how far it read. */
  #fill(bytes: Buffer, at: number, end: number): number {
    const left = this.#length - this.#messageBytes;
    if (this.#pieces.length === 0 && end - at >= left) {
      // Whole: a copy, as the bytes are the connection's and a message may be kept for long.
      this.#give([Buffer.from(bytes.subarray(at, at + left))]);
      return at + left;
    }
    let piece = this.#pieces.at(-1);
    if (piece === undefined || this.#pieceBytes === piece.length) {
      const room = Math.min(left, PIECE_BYTES);
      if (!this.#options.budget.take(room)) {
        this.#refuse({ kind: 'no room' });
        return end;
      }
      piece = Buffer.allocUnsafeSlow(room);
      this.#pieces.push(piece);
      this.#pieceBytes = 0;
    }
    const count = Math.min(piece.length - this.#pieceBytes, end - at);
    bytes.copy(piece, this.#pieceBytes, at, at + count);
    this.#pieceBytes += count;
    this.#messageBytes += count;
    if (this.#messageBytes === this.#length) this.#give(this.#drop());
    return at + count;
  }

  #give(message: Pieces): void {
    const compressed = this.#flag === 1;
    this.#prefixBytes = 0;
    this.#length = 0;
    this.#options.take(message, compressed);
  }

  #refuse(fault: BodyFault): void {
    this.close();
    this.#options.refuse(fault);
  }

  /** Nothing of the message is held here any more; returns what was. */
  #drop(): Pieces {
    const pieces = this.#pieces;
    for (const { length } of pieces) this.#options.budget.release(length);
    this.#pieces = [];
    this.#pieceBytes = 0;
    this.#messageBytes = 0;
    return pieces;
  }
}
