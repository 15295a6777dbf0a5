// What of a step rank 0 alone knows: its tokens, and how the next ones are chosen. In one piece of memory, so that it goes to the other ranks as one message.

/** Float64s that say how one token is chosen: temperature, topK, topP and share, as native/index.ts has them. */
export const DRAW_VALUES = 4;

const WORD_BYTES = Int32Array.BYTES_PER_ELEMENT;
const DRAW_BYTES = DRAW_VALUES * Float64Array.BYTES_PER_ELEMENT;
const MIN_BYTES = 64;

export class StepInputs {
  /** All that follows. */
  readonly words: Int32Array<ArrayBuffer>;
  /** [L, 4] */
  readonly draws: Float64Array<ArrayBuffer>;
  /** [L, 8] the same memory as int32. */
  readonly drawWords: Int32Array<ArrayBuffer>;
  /** [T] token ids of the plan's sequences one after the other, or placeholders (executor.ts). */
  readonly ids: Int32Array<ArrayBuffer>;

  /** memory: of so many bytes at least, with whatever it holds. */
  constructor(numTokens: number, numLogits: number, memory = new ArrayBuffer(bytes(numTokens, numLogits))) {
    const drawBytes = numLogits * DRAW_BYTES;
    this.words = new Int32Array(memory, 0, drawBytes / WORD_BYTES + numTokens);
    this.draws = new Float64Array(memory, 0, numLogits * DRAW_VALUES);
    this.drawWords = new Int32Array(memory, 0, drawBytes / WORD_BYTES);
    this.ids = new Int32Array(memory, drawBytes, numTokens);
  }
}

/** Keeps its memory from step to step, as ReusedInt32Array does; what it gives is valid until the next call. */
export class ReusedStepInputs {
  #inputs = new StepInputs(0, 0, new ArrayBuffer(MIN_BYTES));

  of(numTokens: number, numLogits: number): StepInputs {
    const { ids, draws, words } = this.#inputs;
    if (ids.length === numTokens && draws.length === numLogits * DRAW_VALUES) return this.#inputs;
    const needed = bytes(numTokens, numLogits);
    const memory =
      words.buffer.byteLength < needed ? new ArrayBuffer(2 ** Math.ceil(Math.log2(needed))) : words.buffer;
    this.#inputs = new StepInputs(numTokens, numLogits, memory);
    return this.#inputs;
  }
}

function bytes(numTokens: number, numLogits: number): number {
  return numLogits * DRAW_BYTES + numTokens * WORD_BYTES;
}
