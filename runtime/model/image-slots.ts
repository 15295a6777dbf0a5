// Where a rank keeps the rows of encoded pictures: slots of a tensor that is there from the start, because allocating and freeing on a GPU waits for all
// that it has to do.

import type { Native, Tensor } from '../native/index.ts';
import type { WeightDType } from './tensor-plan.ts';

/** Rows [first, first + height) of a tensor. */
export interface ImageSlot {
  readonly rows: Tensor;
  readonly first: number;
}

export class ImageSlots {
  readonly #native: Native;
  readonly #dtype: WeightDType;
  readonly #height: number;
  readonly #width: number;
  readonly #tensors: Tensor[] = [];
  readonly #free: ImageSlot[] = [];
  readonly #taken = new Map<number, ImageSlot>();

  /** Slots of [height, width], `count` of them from the start. */
  constructor(native: Native, dtype: WeightDType, height: number, width: number, count: number) {
    this.#native = native;
    this.#dtype = dtype;
    this.#height = height;
    this.#width = width;
    if (count > 0) this.#add(count);
  }

  /** A slot for the picture. There is one more, for good, where all are taken: another rank, which decides, may have more memory for them. */
  take(image: number): ImageSlot {
    if (this.#taken.has(image)) throw new RangeError(`picture ${image} is already encoded`);
    if (this.#free.length === 0) this.#add(1);
    const slot = this.#free.pop() as ImageSlot;
    this.#taken.set(image, slot);
    return slot;
  }

  /** Of a picture that has one. */
  get(image: number): ImageSlot {
    const slot = this.#taken.get(image);
    if (slot === undefined) throw new RangeError(`picture ${image} is not encoded`);
    return slot;
  }

  /** Gives up the picture's slot, if it has one. What is under way still reads it before the next picture is written there. */
  release(image: number): void {
    const slot = this.#taken.get(image);
    if (slot === undefined) return;
    this.#taken.delete(image);
    this.#free.push(slot);
  }

  close(): void {
    for (const tensor of this.#tensors) this.#native.free(tensor);
    this.#tensors.length = 0;
    this.#free.length = 0;
    this.#taken.clear();
  }

  #add(count: number): void {
    const rows = this.#native.allocate(this.#dtype, [count * this.#height, this.#width]);
    this.#tensors.push(rows);
    for (let slot = count - 1; slot >= 0; slot -= 1) this.#free.push({ rows, first: slot * this.#height });
  }
}
