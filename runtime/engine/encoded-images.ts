// Which pictures are encoded on the ranks, who still needs their rows, and how many more may be encoded in this step. Sequences with the
// same picture share its rows. Ids are small integers: the ranks know pictures by nothing else.

export interface EncodedImageLimits {
  /** Pictures encoded in one step at most: encoding takes long and decodes wait for it. */
  readonly maxImageEncodes: number;
  /** Encoded pictures held at once at most: each takes memory on every rank. */
  readonly maxEncodedImages: number;
}

interface EncodedImage {
  readonly id: number;
  readonly hash: string;
  references: number;
  /** Set until the plan that encodes it is made. */
  pixels: Uint8Array | undefined;
}

/** The reference-counted table of encoded pictures behind one scheduler. */
export class EncodedImages {
  readonly #limits: EncodedImageLimits;
  readonly #byHash = new Map<string, EncodedImage>();
  readonly #byId = new Map<number, EncodedImage>();
  readonly #freeIds: number[] = [];
  #nextId = 0;
  #held = 0; // with references
  #encodes = 0; // in the step being planned

  constructor(limits: EncodedImageLimits) {
    this.#limits = limits;
  }

  /** Pictures with references; at most maxEncodedImages. */
  get numHeld(): number {
    return this.#held;
  }

  beginStep(): void {
    this.#encodes = 0;
    // What a preempted sequence asked for in a step that then had no plan was never encoded.
    for (const image of this.#byHash.values()) {
      if (image.references === 0 && image.pixels !== undefined) this.#forget(image);
    }
  }

  /** Whether acquire would succeed. */
  canAcquire(hash: string): boolean {
    const image = this.#byHash.get(hash);
    if (image !== undefined && image.references > 0) return true;
    if (this.#held >= this.#limits.maxEncodedImages) return false;
    return image !== undefined || this.#encodes < this.#limits.maxImageEncodes;
  }

  /** A reference to the encoded picture, to be encoded in this step if it is not there yet; undefined when a limit is reached. */
  acquire(hash: string, pixels: Uint8Array): number | undefined {
    if (!this.canAcquire(hash)) return undefined;
    let image = this.#byHash.get(hash);
    if (image === undefined) {
      image = { id: this.#freeIds.pop() ?? this.#nextId++, hash, references: 0, pixels };
      this.#byHash.set(hash, image);
      this.#byId.set(image.id, image);
      this.#encodes += 1;
    }
    if (image.references === 0) this.#held += 1;
    image.references += 1;
    return image.id;
  }

  /** Gives up one reference. The rows stay until the next plan, so that whoever asks in that step still finds them. */
  release(id: number): void {
    const image = this.#byId.get(id);
    if (image === undefined || image.references < 1) {
      throw new Error(`encoded image ${String(id)} is released but not held`);
    }
    image.references -= 1;
    if (image.references === 0) this.#held -= 1;
  }

  /** What the plan of this step drops, and then encodes. */
  endStep(): { readonly free: number[]; readonly encode: ReadonlyMap<number, Uint8Array> } {
    const free: number[] = [];
    const encode = new Map<number, Uint8Array>();
    for (const image of this.#byHash.values()) {
      if (image.references === 0) {
        if (image.pixels === undefined) free.push(image.id);
        this.#forget(image);
      } else if (image.pixels !== undefined) {
        encode.set(image.id, image.pixels);
        image.pixels = undefined;
      }
    }
    return { free, encode };
  }

  #forget(image: EncodedImage): void {
    this.#byHash.delete(image.hash);
    this.#byId.delete(image.id);
    this.#freeIds.push(image.id);
  }
}
