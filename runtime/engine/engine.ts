// The engine as the server sees it: submissions in, one batch of results per step out. Two implementations stand behind it: the model
// engine (its loop lives in a worker thread, see model-engine.ts) and the simulated engine (simulated-engine.ts).

import type { SamplingParams } from './sampling-params.ts';

export interface EngineInfo {
  readonly maxModelLength: number;
  readonly vocabSize: number;
  readonly blockSize: number;
  readonly kvBlocks: number;
  readonly maxSequences: number;
}

/** A run of image tokens in a prompt. */
export interface ImageSpan {
  /** Lower-case hex SHA-256 of the picture's file. */
  readonly hash: string;
  readonly offset: number;
  readonly length: number;
  /** uint8 RGB [size, size, 3] as preprocessed; shared, never written. */
  readonly pixels: Uint8Array;
}

export interface Submission {
  /** Unique among the live sequences of the engine; chosen by the caller. */
  readonly handle: number;
  readonly tokenIds: Uint32Array;
  readonly images: readonly ImageSpan[];
  readonly sampling: SamplingParams;
  /** Number of most likely tokens to report per token (0 = only the token's own); undefined = no log-probabilities. */
  readonly logprobs: number | undefined;
  /** Higher first. */
  readonly priority: number;
  readonly cacheSalt: string;
}

export type FinishReason = 'stop' | 'length' | 'abort' | 'error';

export interface TokenLogprob {
  readonly tokenId: number;
  readonly logprob: number;
  readonly top: readonly { readonly tokenId: number; readonly logprob: number }[];
}

export interface FinishedSequence {
  readonly handle: number;
  readonly reason: FinishReason;
  /** The stop token that ended it; it is not among the delivered tokens. */
  readonly matchedStopTokenId: number | undefined;
  /** Of the prompt, found in the prefix cache. */
  readonly cachedTokens: number;
  /** Microseconds from submission to first schedule, first token and end. */
  readonly queueUs: number;
  readonly firstTokenUs: number;
  readonly totalUs: number;
  /** Why, when reason is 'error'. */
  readonly message: string | undefined;
}

/** What the caches hold now, and what they have saved since the start. */
export interface CacheLoad {
  /** Prompt tokens of the sequences that have started, and those of them that were in the prefix cache. */
  readonly promptTokens: number;
  readonly hitTokens: number;
  /** KV blocks that no sequence uses and whose content can still be found; free for whoever needs one. */
  readonly idleBlocks: number;
  /** Pictures that were there encoded when a sequence came to them, and those that had to be encoded. */
  readonly imageHits: number;
  readonly imageMisses: number;
  /** Rows of encoded pictures, on each rank. */
  readonly imageBytes: number;
}

export const EMPTY_CACHES: CacheLoad = {
  promptTokens: 0,
  hitTokens: 0,
  idleBlocks: 0,
  imageHits: 0,
  imageMisses: 0,
  imageBytes: 0,
};

export interface EngineLoad {
  readonly running: number;
  readonly waiting: number;
  /** Prompt tokens of accepted sequences still to be computed, without those that are in the prefix cache. */
  readonly waitingUncachedTokens: number;
  /** In use by sequences. */
  readonly kvBlocksUsed: number;
  readonly kvBlocks: number;
  readonly stepUs: number;
  readonly caches: CacheLoad;
}

/** Microseconds from the end of the step before (or the first submission after a rest) to the end of the step. */
export interface StepDuration {
  readonly us: number;
  /** Of them, inside native operations. */
  readonly nativeUs: number;
}

/** What one step produced: the tokens of handles[i] are the next counts[i] entries of tokenIds. */
export interface StepOutput {
  readonly step: number;
  readonly handles: readonly number[];
  readonly counts: readonly number[];
  readonly tokenIds: readonly number[];
  readonly logprobs: readonly { readonly handle: number; readonly tokens: readonly TokenLogprob[] }[];
  readonly finished: readonly FinishedSequence[];
  /** What the step took; undefined when nothing was computed. */
  readonly duration: StepDuration | undefined;
  /** Prompt tokens that it computed, and tokens of preempted sequences computed again. */
  readonly prefillTokens: number;
  readonly load: EngineLoad;
}

export interface EngineListener {
  onStep(output: StepOutput): void;
  /** The engine is lost with everything in it: no further output comes. */
  onFatal(error: Error): void;
}

/**
 * Every submitted handle ends exactly once, in some StepOutput.finished, unless the engine is lost (onFatal). Aborting an unknown or finished handle does nothing.
 * A submission must fit (prompt + 1 <= maxModelLength, its blocks <= kvBlocks): the server checks with admission.ts first; the engine finishes one that does not with 'error'.
 */
export interface Engine {
  readonly info: EngineInfo;
  /** Call once, before the first submission. */
  listen(listener: EngineListener): void;
  submit(submissions: readonly Submission[]): void;
  abort(handles: readonly number[]): void;
  load(): EngineLoad;
  /** Milliseconds since the engine last made progress while it had work; 0 when idle. */
  stalledMs(): number;
  /** Ends what is running with 'abort' and frees everything. */
  close(): Promise<void>;
}
