const DEPTH = 16;

/** Makes numbered things before they are asked for: drawing a picture must not make its request late. */
export class Ahead<Thing> {
  readonly #make: (index: number) => Promise<Thing>;
  readonly #ready: Promise<Thing>[] = [];
  #made = 0;

  constructor(make: (index: number) => Promise<Thing>) {
    this.#make = make;
  }

  /** The next thing, in the order of their numbers. */
  next(): Promise<Thing> {
    while (this.#ready.length <= DEPTH) {
      const thing = this.#make(this.#made++);
      // Who asks for it sees the failure; until then it is nobody's.
      thing.catch(() => undefined);
      this.#ready.push(thing);
    }
    return this.#ready.shift() as Promise<Thing>;
  }
}
