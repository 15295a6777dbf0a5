// A model for tests: it keeps what would be keys and values as one number a slot, and its logits are a hash of what it reads back through
// the block tables. A wrong slot, table, position or picture row therefore shows in the tokens, and nothing else does.

import { createHash } from 'node:crypto';

import type { Batch, Logits, Model } from '../../runtime/engine/batch.ts';
import { PLAIN_OPERATIONS } from '../../runtime/engine/draw.ts';
import type { Submission } from '../../runtime/engine/engine.ts';
import { Sampler } from '../../runtime/engine/sampler.ts';
import { mix } from '../../runtime/engine/seeded-random.ts';
import { DRAW_VALUES } from '../../runtime/engine/step-inputs.ts';

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
  #lastChosen = new Int32Array(0);
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
    const values = Int32Array.from(batch.inputs.ids, (id) => (id < 0 ? this.#last(-1 - id) : id)); // [T]
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
    const { draws } = batch.inputs;
    const chosen = Int32Array.from(rows, (row, index) => choose(row, draws.subarray(index * DRAW_VALUES)));
    this.#lastRows = rows;
    this.#lastChosen = chosen;
    return () => ({
      numRows: rows.length,
      chosen,
      row: (index) => {
        if (this.#lastRows !== rows) throw new Error('rows of a step that another has followed');
        return rows[index] ?? new Float32Array(0);
      },
    });
  }

  close(): void {
    this.#images.clear();
  }

  /** The token chosen from a row of the last pass. */
  #last(row: number): number {
    const chosen = this.#lastChosen[row];
    if (!this.runsAhead || chosen === undefined) throw new Error(`a placeholder for row ${String(row)}`);
    return chosen;
  }

  #context(batch: Batch, sequence: number): number[] {
    const table = batch.blockTables.subarray(sequence * batch.maxBlocks, (sequence + 1) * batch.maxBlocks);
    return Array.from({ length: batch.contextLengths[sequence] ?? 0 }, (_, position) => {
      const block = table[Math.floor(position / this.#blockSize)] ?? 0;
      return this.#cache[block * this.#blockSize + (position % this.#blockSize)] ?? 0;
    });
  }
}

/** `count` tokens that a submission must get, worked out without engine, cache or batch; what is drawn, with its seed, or 0. */
export function expectedTokens(
  submission: Pick<Submission, 'tokenIds' | 'images' | 'sampling'>,
  count: number,
  vocabSize: number,
): number[] {
  const values: number[] = Array.from(submission.tokenIds);
  for (const { offset, length, pixels } of submission.images) {
    for (let row = 0; row < length; row += 1) values[offset + row] = rowValue(contentOf(pixels), row);
  }
  const { tokenIds, sampling } = submission;
  const tokens = Array.from(tokenIds);
  const sampler = new Sampler(vocabSize);
  while (tokens.length < tokenIds.length + count) {
    const sampled = sampler.sample({
      logits: Float32Array.from(fakeLogits(values, vocabSize)),
      tokens: Int32Array.from(tokens),
      promptLength: tokenIds.length,
      params: sampling,
      seed: sampling.seed ?? 0n,
      logprobs: undefined,
    });
    if ('error' in sampled) throw new Error(sampled.error);
    tokens.push(sampled.tokenId);
    values.push(sampled.tokenId);
  }
  return tokens.slice(tokenIds.length);
}

function choose(row: Float32Array, [temperature = 0, topK = 0, topP = 1, share = 0]: Float64Array): number {
  const most = Math.max(...row);
  return temperature === 0
    ? row.indexOf(most)
    : PLAIN_OPERATIONS.drawToken(row, most, temperature, topK, topP, share);
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
