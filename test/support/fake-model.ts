// A model for tests: it keeps what would be keys and values as one number a slot, and its logits are a hash of what it reads back through
// the block tables. A wrong slot, table, position or picture row therefore shows in the tokens, and nothing else does.

import { createHash } from 'node:crypto';

import type { Batch, Logits, Model } from '../../runtime/engine/batch.ts';
import type { Submission } from '../../runtime/engine/engine.ts';
import { mix } from '../../runtime/engine/seeded-random.ts';

export interface FakeModelOptions {
  readonly vocabSize: number;
  readonly blockSize: number;
  readonly kvBlocks: number;
  readonly runsAhead?: boolean;
}

/** The Model contract over one number a slot. */
export class FakeModel implements Model {
  readonly vocabSize: number;
  readonly runsAhead: boolean;
  readonly #blockSize: number;
  /** Of the last forward pass. */
  #lastRows: readonly Float32Array[] = [];
  readonly #cache: Int32Array; // [kvBlocks * blockSize]
  readonly #images = new Map<number, number>();

  constructor({ vocabSize, blockSize, kvBlocks, runsAhead = false }: FakeModelOptions) {
    this.vocabSize = vocabSize;
    this.runsAhead = runsAhead;
    this.#blockSize = blockSize;
    this.#cache = new Int32Array(kvBlocks * blockSize);
  }

  get numImages(): number {
    return this.#images.size;
  }

  encodeImage(image: number, pixels: Uint8Array | undefined): void {
    if (pixels === undefined) throw new Error(`no pixels for image ${String(image)}`);
    if (this.#images.has(image)) throw new Error(`image ${String(image)} is encoded twice`);
    this.#images.set(image, contentOf(pixels));
  }

  freeImage(image: number): void {
    if (!this.#images.delete(image)) throw new Error(`image ${String(image)} is freed but not held`);
  }

  forward(batch: Batch): () => Logits {
    const values = Int32Array.from(batch.inputIds, (id) => (id < 0 ? this.#last(-1 - id) : id)); // [T]
    for (const { image, sourceRow, targetRow, count } of batch.imageRows) {
      const content = this.#images.get(image);
      if (content === undefined) throw new Error(`image ${String(image)} is not held`);
      for (let row = 0; row < count; row += 1) values[targetRow + row] = rowValue(content, sourceRow + row);
    }
    for (const [row, slot] of batch.slots.entries()) this.#cache[slot] = values[row] ?? 0;
    const logits = new Float32Array(batch.logitRows.length * this.vocabSize); // [L, vocabSize]
    for (const [index, row] of batch.logitRows.entries()) {
      const sequence = batch.queryStart.findIndex(
        (start, at) => start <= row && row < (batch.queryStart[at + 1] ?? 0),
      );
      const context = this.#context(batch, sequence);
      if (batch.positions[row] !== context.length - 1)
        throw new Error('the last position is not the context length');
      logits.set(fakeLogits(context, this.vocabSize), index * this.vocabSize);
    }
    const rows = Array.from(batch.logitRows, (_, index) =>
      logits.subarray(index * this.vocabSize, (index + 1) * this.vocabSize),
    );
    this.#lastRows = rows;
    const best = Int32Array.from(rows, (row) => row.indexOf(Math.max(...row)));
    return () => ({
      numRows: rows.length,
      best,
      row: (index) => {
        if (this.#lastRows !== rows) throw new Error('rows of a step that another has followed');
        return rows[index] ?? new Float32Array(0);
      },
    });
  }

  close(): void {
    this.#images.clear();
  }

  /** The likeliest token of a row of the last pass. */
  #last(row: number): number {
    const logits = this.#lastRows[row];
    if (!this.runsAhead || logits === undefined) throw new Error(`a placeholder for row ${String(row)}`);
    return logits.indexOf(Math.max(...logits));
  }

  #context(batch: Batch, sequence: number): number[] {
    const table = batch.blockTables.subarray(sequence * batch.maxBlocks, (sequence + 1) * batch.maxBlocks);
    return Array.from({ length: batch.contextLengths[sequence] ?? 0 }, (_, position) => {
      const block = table[Math.floor(position / this.#blockSize)] ?? 0;
      return this.#cache[block * this.#blockSize + (position % this.#blockSize)] ?? 0;
    });
  }
}

/** The greedy answer of `count` tokens that a submission must get, worked out without engine, cache or batch. */
export function expectedTokens(
  submission: Pick<Submission, 'tokenIds' | 'images'>,
  count: number,
  vocabSize: number,
): number[] {
  const values: number[] = Array.from(submission.tokenIds);
  for (const { offset, length, pixels } of submission.images) {
    for (let row = 0; row < length; row += 1) values[offset + row] = rowValue(contentOf(pixels), row);
  }
  const tokens: number[] = [];
  while (tokens.length < count) {
    const logits = fakeLogits(values, vocabSize);
    const token = logits.indexOf(Math.max(...logits));
    tokens.push(token);
    values.push(token);
  }
  return tokens;
}

function contentOf(pixels: Uint8Array): number {
  return createHash('sha256').update(pixels).digest().readInt32LE();
}

function rowValue(content: number, row: number): number {
  return mix(content, row) | 0;
}

function fakeLogits(context: readonly number[], vocabSize: number): number[] {
  const hash = context.reduce((state, value) => mix(state, value), 1);
  return Array.from({ length: vocabSize }, (_, token) => Math.fround(mix(hash, token) / 2 ** 28));
}
