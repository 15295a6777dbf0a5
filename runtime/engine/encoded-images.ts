// Which pictures are encoded on the ranks, who still needs their rows, and how many more may be encoded in this step. Sequences with the
// same picture share its rows, and rows that nobody needs stay for the next who asks, up to a bound, least recently used dropped first. Ids
// are small integers: the ranks know pictures by nothing else.

export interface EncodedImageLimits {
  /** Pictures encoded in one step at most: encoding takes long and decodes wait for it. */
  readonly maxImageEncodes: number;
  /** Encoded pictures held at once at most: each takes memory on every rank. */
  readonly maxEncodedImages: number;
  /** Encoded pictures that nobody holds, kept beyond those; 0 = none. */
  readonly maxCachedImages: number;
}

interface EncodedImage {
  readonly id: number;
  readonly key: string;
  references: number;
  /** Set until the plan that encodes it is made. */
  pixels: Uint8Array | undefined;
}

/** The reference-counted table of encoded pictures behind one scheduler. A key stands for a picture's content. */
export class EncodedImages {
  readonly #limits: EncodedImageLimits;
  readonly #byKey = new Map<string, EncodedImage>();
  readonly #byId = new Map<number, EncodedImage>();
  /** To be encoded by the next plan. */
  readonly #pending = new Set<EncodedImage>();
  /** Encoded and without references, least recently used first. */
  readonly #idle = new Set<EncodedImage>();
  readonly #freeIds: number[] = [];
  #nextId = 0;
  #held = 0; // with references
  #encodes = 0; // in the step being planned
  #hits = 0;
  #misses = 0;

  constructor(limits: EncodedImageLimits) {
    this.#limits = limits;
  }

  /** Pictures with references; at most maxEncodedImages. */
  get numHeld(): number {
    return this.#held;
  }

  /** Pictures whose rows the ranks keep, as of the next plan; at most maxEncodedImages + maxCachedImages once it is made. */
  get numEncoded(): number {
    return this.#byId.size;
  }

  /** References taken to a picture that was there. */
  get hits(): number {
    return this.#hits;
  }

  /** References taken to a picture that had to be encoded for it. */
  get misses(): number {
    return this.#misses;
  }

  beginStep(): void {
    this.#encodes = 0;
    // What a preempted sequence asked for in a step that then had no plan was never encoded.
    for (const image of this.#pending) if (image.references === 0) this.#forget(image);
  }

  /** Whether acquire would succeed. */
  canAcquire(key: string): boolean {
    const image = this.#byKey.get(key);
    if (image !== undefined && image.references > 0) return true;
    if (this.#held >= this.#limits.maxEncodedImages) return false;
    return image !== undefined || this.#encodes < this.#limits.maxImageEncodes;
  }

  /** A reference to the encoded picture, to be encoded in this step if it is not there yet; undefined when a limit is reached. */
  acquire(key: string, pixels: Uint8Array): number | undefined {
    if (!this.canAcquire(key)) return undefined;
    let image = this.#byKey.get(key);
    if (image === undefined) {
      image = { id: this.#freeIds.pop() ?? this.#nextId++, key, references: 0, pixels };
      this.#byKey.set(key, image);
      this.#byId.set(image.id, image);
      this.#pending.add(image);
      this.#encodes += 1;
      this.#misses += 1;
    } else {
      this.#idle.delete(image);
      this.#hits += 1;
    }
    if (image.references === 0) this.#held += 1;
    image.references += 1;
    return image.id;
  }

  /** Gives up one reference. The rows stay at least until the next plan, so that whoever asks in that step still finds them. */
  release(id: number): void {
    const image = this.#byId.get(id);
    if (image === undefined || image.references < 1) {
      throw new Error(`encoded image ${String(id)} is released but not held`);
    }
    image.references -= 1;
    if (image.references > 0) return;
    this.#held -= 1;
    if (image.pixels === undefined) this.#idle.add(image);
  }

  /** What the plan of this step drops, and then encodes. */
  endStep(): { readonly free: number[]; readonly encode: ReadonlyMap<number, Uint8Array> } {
    const encode = new Map<number, Uint8Array>();
    for (const image of this.#pending) {
      if (image.references === 0 || image.pixels === undefined) {
        this.#forget(image);
        continue;
      }
      encode.set(image.id, image.pixels);
      image.pixels = undefined;
    }
    this.#pending.clear();
    const free: number[] = [];
    for (const image of this.#idle) {
      if (this.#idle.size <= this.#limits.maxCachedImages) break;
      free.push(image.id);
      this.#forget(image);
    }
    return { free, encode };
  }

  #forget(image: EncodedImage): void {
    this.#byKey.delete(image.key);
    this.#byId.delete(image.id);
    this.#pending.delete(image);
    this.#idle.delete(image);
    this.#freeIds.push(image.id);
  }
}
