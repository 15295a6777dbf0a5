/** Calls each of those that asked once, at the end of this turn of the event loop: what several events of a turn have to send goes out together. */
export class Flusher {
  #due: Flushable[] = [];
  #planned = false;

  /** It must not ask again before it is called. */
  add(flushable: Flushable): void {
    this.#due.push(flushable);
    if (this.#planned) return;
    this.#planned = true;
    setImmediate(() => {
      this.#planned = false;
      const due = this.#due;
      this.#due = [];
      for (const each of due) each.flush();
    });
  }
}

export interface Flushable {
  flush(): void;
}
