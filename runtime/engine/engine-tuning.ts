// How much work the engine takes on at once, and what it keeps for later.

/** What an operator of the engine chooses; everything else follows from the model and its memory. */
export interface EngineTuning {
  /** Token budget of a step. */
  readonly maxBatchedTokens: number;
  /** Milliseconds that a step with decodes and prefill should take, see step-pace.ts; 0 = as long as its budget takes. */
  readonly stepTargetMs: number;
  /** Submissions waiting at most; a further one ends with 'error'. */
  readonly maxWaiting: number;
  readonly maxImageEncodes: number;
  readonly maxEncodedImages: number;
  readonly agingSteps: number;
  readonly prefixCache: boolean;
  /** Rows of encoded pictures that no sequence needs, kept on each rank at most; 0 = none. */
  readonly encoderCacheBytes: number;
  /** Rows of one encoded picture, on each rank. */
  readonly imageBytes: number;
}

export const DEFAULT_TUNING: EngineTuning = {
  maxBatchedTokens: 2048,
  stepTargetMs: 100,
  maxWaiting: 4096,
  maxImageEncodes: 2,
  maxEncodedImages: 32,
  agingSteps: 1000,
  prefixCache: true,
  encoderCacheBytes: 256 << 20,
  imageBytes: 256 * 7168 * 2, // of the published model in bfloat16
};
