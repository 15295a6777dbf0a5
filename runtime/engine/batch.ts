import type { StepInputs } from './step-inputs.ts';

/**
 * Valid until the next step: its arrays are used again. One forward pass over T tokens of S sequences: what a StepPlan becomes once positions, slots and block tables are worked out. Equal on every rank but for `inputs`,
 * which only rank 0 knows before the broadcast.
 */
export interface Batch {
  readonly step: number;
  readonly numTokens: number;
  readonly numSequences: number;
  /** On ranks > 0 filled by the broadcast at the start of the forward pass. */
  readonly inputs: StepInputs;
  /** [T] */
  readonly positions: Int32Array;
  /** [T] slot of each token's key and value: block * blockSize + offset. */
  readonly slots: Int32Array;
  /** [S + 1] */
  readonly queryStart: Int32Array;
  /** [S] tokens of the sequence including this step's. */
  readonly contextLengths: Int32Array;
  /** [S, maxBlocks] padded with 0. */
  readonly blockTables: Int32Array;
  readonly maxBlocks: number;
  /** [L] input rows whose logits are wanted, in the order of the sequences that want them. */
  readonly logitRows: Int32Array;
  readonly imageRows: readonly {
    readonly image: number;
    readonly sourceRow: number;
    readonly targetRow: number;
    readonly count: number;
  }[];
}

/** Of the L rows that were wanted; valid until the next step. */
export interface Logits {
  readonly numRows: number;
  /** [vocabSize] float32, valid until the next call: most rows are never looked at. */
  row(index: number): Float32Array;
  /** [L] the token that each row's draw in the batch's inputs chooses, -1 where the row has no largest number; absent when the model does not choose. */
  readonly chosen?: Int32Array;
}

/** What the engine needs from the model on this rank. All calls are synchronous and collective: every rank makes the same ones in the same order. */
export interface Model {
  readonly vocabSize: number;
  /** Encodes a picture and keeps its rows [imageTokens, hidden] under `image` until freed. pixels: uint8 [size, size, 3] on rank 0; undefined elsewhere (broadcast). */
  encodeImage(image: number, pixels: Uint8Array | undefined): void;
  freeImage(image: number): void;
  /** forward returns before the work is done, and takes placeholders (executor.ts) for tokens that it has not given out yet. */
  readonly runsAhead: boolean;
  /**
   * Begins a forward pass. On rank 0, what waits for the logits of batch.logitRows; undefined on the others. `chosen` is valid until the second call
   * after it, rows until the next.
   */
  forward(batch: Batch): (() => Logits) | undefined;
  close(): void;
}
