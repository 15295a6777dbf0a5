// What a connection may send of DATA, and which streams wait for that: in turn, a frame each.

import type { Outbox } from './outbox.ts';
import { DEFAULT_WINDOW_BYTES, MOST_WINDOW_BYTES } from './protocol.ts';

/** Up to here DATA fills the outbox in one turn; the rest follows when the socket has taken that. */
const MOST_DATA_BYTES = 256 * 1024;

/** A stream with something to send. */
export interface Sender {
  /** Sends at most a frame of what waits; true when more could be sent at once. */
  sendQueued(): boolean;
}

export class Sending {
  readonly #outbox: Outbox;
  /** Those that only wait for the connection, who waits longest first. */
  readonly #waiting = new Set<Sender>();
  #window = DEFAULT_WINDOW_BYTES;
  #blocked = false;
  #resuming = false;

  constructor(outbox: Outbox) {
    this.#outbox = outbox;
  }

  /** Streams wait already: nobody gets ahead of them. */
  get crowded(): boolean {
    return this.#waiting.size > 0;
  }

  /** Bytes of DATA that can go out now. */
  room(): number {
    return this.#blocked ? 0 : Math.min(this.#window, MOST_DATA_BYTES - this.#outbox.length);
  }

  sent(bytes: number): void {
    this.#window -= bytes;
  }

  wait(sender: Sender): void {
    this.#waiting.add(sender);
    this.resume();
  }

  forget(sender: Sender): void {
    this.#waiting.delete(sender);
  }

  /** The peer takes more; false when that is more than a window can be. */
  widen(bytes: number): boolean {
    this.#window += bytes;
    if (this.#window > MOST_WINDOW_BYTES) return false;
    this.resume();
    return true;
  }

  /** Whether the socket takes more. */
  setBlocked(blocked: boolean): void {
    this.#blocked = blocked;
    if (!blocked) this.resume();
  }

  /** Sends what can be sent. */
  resume(): void {
    // A stream that has sent all it had may be given more at once, and waits again: behind the others, in the round that is under way.
    if (this.#resuming) return;
    this.#resuming = true;
    try {
      for (const sender of this.#waiting) {
        if (this.room() <= 0) break;
        this.#waiting.delete(sender);
        if (sender.sendQueued()) this.#waiting.add(sender);
      }
    } finally {
      this.#resuming = false;
    }
  }
}
