// One step's plan as a difference from the step before: what rank 0's scheduler decides and every rank applies (rank-state.ts).
// The wire form is internvl.shard.v1.StepPlan; token ids are not in it (rank 0 broadcasts them over the collective).

export interface ScheduledSequence {
  readonly handle: number;
  /** Tokens computed before this step; positions of this step start here. */
  readonly numComputed: number;
  readonly numTokens: number;
  /** Appended to its block table. */
  readonly newBlocks: readonly number[];
  /** The logits of its last token are wanted (its known tokens end with this step). */
  readonly wantsLogits: boolean;
}

/** `count` rows of encoded image `image` from sourceRow replace the step's input rows from targetRow. */
export interface ImageRows {
  readonly image: number;
  readonly sourceRow: number;
  readonly targetRow: number;
  readonly count: number;
}

export interface StepPlan {
  readonly step: number;
  readonly sequences: readonly ScheduledSequence[];
  /** Handles to forget, and handles whose block table is emptied, before `sequences` is applied. */
  readonly finished: readonly number[];
  readonly preempted: readonly number[];
  /** Image ids (small integers, chosen by rank 0) to drop, then to encode, before the forward pass. */
  readonly freeImages: readonly number[];
  readonly encodeImages: readonly number[];
  readonly imageRows: readonly ImageRows[];
}
