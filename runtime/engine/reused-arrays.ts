// Arrays of a step that keep their memory from step to step: while sequences decode, their lengths hardly ever change.

const MIN_ELEMENTS = 16;

/** Gives an array of the length that is asked for, holding whatever was written there before; it is valid until the next call. */
class Reused<A extends Int32Array<ArrayBuffer> | Float32Array<ArrayBuffer>> {
  readonly #make: (memory: ArrayBuffer, length: number) => A;
  #array: A;

  constructor(make: (memory: ArrayBuffer, length: number) => A) {
    this.#make = make;
    this.#array = make(new ArrayBuffer(4 * MIN_ELEMENTS), 0);
  }

  of(length: number): A {
    if (this.#array.length === length) return this.#array;
    let memory = this.#array.buffer;
    // In powers of two: a batch that grows by one each step takes new memory only now and then.
    if (memory.byteLength < 4 * length) memory = new ArrayBuffer(4 * 2 ** Math.ceil(Math.log2(length)));
    this.#array = this.#make(memory, length);
    return this.#array;
  }
}

export class ReusedInt32Array extends Reused<Int32Array<ArrayBuffer>> {
  constructor() {
    super((memory, length) => new Int32Array(memory, 0, length));
  }
}

export class ReusedFloat32Array extends Reused<Float32Array<ArrayBuffer>> {
  constructor() {
    super((memory, length) => new Float32Array(memory, 0, length));
  }
}
