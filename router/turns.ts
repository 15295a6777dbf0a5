// Work that comes in bursts, a part in each turn of the event loop. A step's tokens for hundreds of streams arrive at once; what comes in
// while they are handed on, a new request or another's first token, waits for one part of them and not for all.

/** Does at most `count` units of work and returns how many it did: fewer when nothing is left. */
export type Part = (count: number) => number;

export class Turns {
  readonly #perTurn: number;
  readonly #nextTurn: (run: () => void) => void;
  readonly #parts = new Set<Part>();
  /** What may still be done in this turn. */
  #left: number;
  #planned = false;

  /** At most `perTurn` units in a turn; `nextTurn` calls back in the next one. */
  constructor(perTurn: number, nextTurn: (run: () => void) => void = setImmediate) {
    this.#perTurn = perTurn;
    this.#left = perTurn;
    this.#nextTurn = nextTurn;
  }

  /** Begins now with what this turn has left, and goes on in the next ones; several share each turn. */
  begin(part: Part): void {
    this.#do(part, this.#left);
    this.#plan();
  }

  /** Does no more of a part. */
  end(part: Part): void {
    this.#parts.delete(part);
  }

  #do(part: Part, count: number): void {
    if (count > 0) {
      const done = part(count);
      this.#left -= done;
      // Behind those that had nothing in this turn.
      this.#parts.delete(part);
      if (done < count) return;
    }
    this.#parts.add(part);
  }

  #plan(): void {
    if (this.#planned) return;
    this.#planned = true;
    this.#nextTurn(() => {
      this.#planned = false;
      this.#left = this.#perTurn;
      if (this.#parts.size === 0) return;
      const share = Math.ceil(this.#perTurn / this.#parts.size);
      // A copy: each goes to the end of the line.
      for (const part of Array.from(this.#parts)) this.#do(part, Math.min(share, this.#left));
      this.#plan();
    });
  }
}
