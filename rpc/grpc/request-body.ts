// The body of a request: its messages in order, compressed ones among them, and how much the peer may send ahead of them.

import { status } from '@grpc/grpc-js';
import type { Inflater } from './inflater.ts';
import { joined, MessageReader, type BodyFault, type Pieces } from './message-reader.ts';
import type { ReceiveBudget } from './receive-budget.ts';
import type { CallStatus } from './response-headers.ts';

export interface BodyOptions {
  /** Its messages may be compressed with gzip. */
  readonly compressed: boolean;
  readonly inflater: Inflater;
  readonly budget: ReceiveBudget;
  readonly maxMessageBytes: number;
}

export interface BodyListener {
  /** Messages wait to be taken: the peer is to wait too. */
  readonly backlog: boolean;
  message(pieces: Pieces): void;
  /** It cannot be read on. */
  fail(why: CallStatus): void;
  /** The peer may send so many bytes more. */
  consumed(bytes: number): void;
}

export class RequestBody {
  readonly #options: BodyOptions;
  readonly #listener: BodyListener;
  readonly #reader: MessageReader;
  /** Messages behind a compressed one wait for it. */
  #inflating: Promise<void> | undefined;
  /** Bytes that came while messages wait. */
  #held = 0;
  #closed = false;

  constructor(options: BodyOptions, listener: BodyListener) {
    this.#options = options;
    this.#listener = listener;
    this.#reader = new MessageReader({
      mostBytes: options.maxMessageBytes,
      budget: options.budget,
      take: (message, compressed) => this.#take(message, compressed),
      refuse: (fault) => listener.fail(this.#statusOf(fault)),
    });
  }

  push(bytes: Buffer, start: number, end: number): void {
    if (!this.#closed) this.#reader.push(bytes, start, end);
    this.#held += end - start;
    this.release();
  }

  /** Calls `then` behind the last message; `whole` is false where the body ended in the middle of one. */
  end(then: (whole: boolean) => void): void {
    if (this.#inflating === undefined) then(this.#reader.complete);
    else void this.#inflating.finally(() => then(this.#reader.complete));
  }

  /** Lets the peer send on, unless messages wait. */
  release(): void {
    if (this.#held === 0) return;
    if (!this.#closed && (this.#inflating !== undefined || this.#listener.backlog)) return;
    const held = this.#held;
    this.#held = 0;
    this.#listener.consumed(held);
  }

  /** Nobody wants the rest. */
  close(): void {
    this.#closed = true;
    this.#reader.close();
    this.release();
  }

  #take(message: Pieces, compressed: boolean): void {
    if (!compressed && this.#inflating === undefined) {
      this.#listener.message(message);
      return;
    }
    if (compressed && !this.#options.compressed) {
      const details = 'Received a compressed message of a call without grpc-encoding';
      this.#listener.fail({ code: status.INTERNAL, details });
      return;
    }
    const inflating = this.#inflate(this.#inflating, message, compressed);
    this.#inflating = inflating;
    void inflating.finally(() => {
      if (this.#inflating !== inflating) return;
      this.#inflating = undefined;
      this.release();
    });
  }

  async #inflate(before: Promise<void> | undefined, message: Pieces, compressed: boolean): Promise<void> {
    await before;
    if (this.#closed) return;
    let pieces = message;
    try {
      if (compressed) pieces = [await this.#options.inflater.inflate(joined(message))];
    } catch (error) {
      const tooLarge = error instanceof Error && 'code' in error && error.code === 'ERR_BUFFER_TOO_LARGE';
      const { maxMessageBytes } = this.#options;
      this.#listener.fail(
        tooLarge
          ? {
              code: status.RESOURCE_EXHAUSTED,
              details: `Received a message that decompresses to more than ${maxMessageBytes} bytes`,
            }
          : { code: status.INTERNAL, details: 'Received a compressed message that is no gzip' },
      );
      return;
    }
    if (!this.#closed) this.#listener.message(pieces);
  }

  #statusOf(fault: BodyFault): CallStatus {
    const { maxMessageBytes, budget } = this.#options;
    if (fault.kind === 'bad flag')
      return {
        code: status.INTERNAL,
        details: `Received a message whose compressed flag is ${fault.flag}, not 0 or 1`,
      };
    const details =
      fault.kind === 'too large'
        ? `Received message larger than max (${fault.bytes} vs. ${maxMessageBytes})`
        : `Messages that are still coming in hold ${budget.taken} bytes already`;
    return { code: status.RESOURCE_EXHAUSTED, details };
  }
}
