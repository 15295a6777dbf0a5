// Decode steps as recorded work. A step in which every sequence computes one token always makes the same calls, so its hundreds of launches
// are recorded once for each size of batch and launched as one. Batches are padded to a few sizes; the padding's tokens are written to a block
// that belongs to nobody.

import type { Batch } from '../engine/batch.ts';
import { ReusedInt32Array } from '../engine/reused-arrays.ts';
import { ReusedStepInputs } from '../engine/step-inputs.ts';
import type { Graph, Native, Tensor } from '../native/index.ts';
import { batchIndices } from './batch-indices.ts';
import type { BatchIndices } from './batch-indices.ts';
import { counting, EMPTY_BATCH } from './warm-up-batches.ts';

/** Up to here sizes double, from here on they grow by it: at most this much padding. */
const SIZE_STEP = 8;

/** The sizes that batches of up to `most` sequences are padded to, smallest first. */
export function graphSizes(most: number): number[] {
  const sizes: number[] = [];
  for (let size = 1; size < most; size = size < SIZE_STEP ? size * 2 : size + SIZE_STEP) sizes.push(size);
  return [...sizes, most];
}

/** Every sequence computes one token and wants its logits. */
export function isDecode(batch: Batch): boolean {
  const { numTokens, numSequences, logitRows, imageRows } = batch;
  return (
    numTokens === numSequences &&
    logitRows.length === numTokens &&
    numTokens > 0 &&
    imageRows.every(({ count }) => count === 0)
  );
}

export interface DecodeGraphOptions {
  readonly maxSequences: number;
  readonly maxModelLength: number;
  readonly blockSize: number;
  /** A block that no sequence has. */
  readonly spareBlock: number;
}

/** logits [size, tp * ceil(V / tp)] and the tokens chosen from them [size, 1]. */
export type DecodeResults = readonly [logits: Tensor, chosen: Tensor];

export class DecodeGraphs {
  readonly #native: Native;
  readonly #options: DecodeGraphOptions;
  readonly #maxBlocks: number;
  readonly #compute: (indices: BatchIndices) => DecodeResults;
  readonly #graphs = new Map<number, Graph>();
  readonly #sizes: readonly number[];
  readonly #inputs = new ReusedStepInputs();
  readonly #positions = new ReusedInt32Array();
  readonly #slots = new ReusedInt32Array();
  readonly #queryStart = new ReusedInt32Array();
  readonly #contextLengths = new ReusedInt32Array();
  readonly #blockTables = new ReusedInt32Array();
  readonly #logitRows = new ReusedInt32Array();

  /** compute: the calls of a decode step. They must depend on the sizes of what it is given alone, never on values. */
  constructor(
    native: Native,
    options: DecodeGraphOptions,
    compute: (indices: BatchIndices) => DecodeResults,
  ) {
    this.#native = native;
    this.#options = options;
    this.#compute = compute;
    this.#maxBlocks = Math.ceil(options.maxModelLength / options.blockSize);
    this.#sizes = graphSizes(options.maxSequences);
  }

  /** Records every size, after a run of each in which the device tries out how to compute it. */
  record(): void {
    for (const size of this.#sizes.toReversed()) {
      const mark = this.#native.mark();
      this.#native.tune(true);
      this.#compute(batchIndices(this.#native, this.#padded(EMPTY_BATCH, size)));
      this.#native.tune(false);
      this.#native.release(mark);
      this.#run(this.#padded(EMPTY_BATCH, size));
      this.#native.release(mark);
    }
  }

  /** The results' first rows are the batch's. They live in the arena, which must stand where it stands at every call. The batch is a decode of at most maxSequences. */
  run(batch: Batch): DecodeResults {
    const size = this.#sizes.find((candidate) => candidate >= batch.numSequences);
    if (size === undefined)
      throw new RangeError(
        `a decode of ${batch.numSequences} sequences; graphs are for ${this.#options.maxSequences}`,
      );
    return this.#run(this.#padded(batch, size));
  }

  free(): void {
    for (const graph of this.#graphs.values()) this.#native.freeGraph(graph);
    this.#graphs.clear();
  }

  #run(batch: Batch): DecodeResults {
    const native = this.#native;
    const indices = batchIndices(native, batch);
    let graph = this.#graphs.get(batch.numSequences);
    if (graph === undefined) {
      const mark = native.mark();
      native.beginGraph();
      let results: DecodeResults | undefined;
      try {
        results = this.#compute(indices);
      } finally {
        graph = native.endGraph(results ?? []);
        if (results === undefined) native.freeGraph(graph);
      }
      native.release(mark);
      this.#graphs.set(batch.numSequences, graph);
    }
    const [logits, chosen] = native.launchGraph(graph);
    if (logits === undefined || chosen === undefined) throw new Error('a graph without results');
    return [logits, chosen];
  }

  /** The batch with rows up to `size` that nobody looks at. */
  #padded(batch: Batch, size: number): Batch {
    const { spareBlock, blockSize } = this.#options;
    const count = batch.numSequences;
    const blockTables = this.#blockTables.of(size * this.#maxBlocks).fill(spareBlock);
    for (let s = 0; s < count; s += 1) {
      const table = batch.blockTables.subarray(s * batch.maxBlocks, (s + 1) * batch.maxBlocks);
      blockTables.set(table, s * this.#maxBlocks);
    }
    const inputs = this.#inputs.of(size, size); // the padding's tokens are the likeliest
    filled(inputs.ids, batch.inputs.ids, 0);
    inputs.draws.fill(0, batch.inputs.draws.length).set(batch.inputs.draws);
    return {
      ...batch,
      numTokens: size,
      numSequences: size,
      inputs,
      positions: filled(this.#positions.of(size), batch.positions, 0),
      slots: filled(this.#slots.of(size), batch.slots, spareBlock * blockSize),
      queryStart: counting(this.#queryStart.of(size + 1)),
      contextLengths: filled(this.#contextLengths.of(size), batch.contextLengths, 1),
      blockTables,
      maxBlocks: this.#maxBlocks,
      logitRows: counting(this.#logitRows.of(size)),
    };
  }
}

function filled(array: Int32Array, values: Int32Array, rest: number): Int32Array {
  array.set(values);
  return array.fill(rest, values.length);
}
