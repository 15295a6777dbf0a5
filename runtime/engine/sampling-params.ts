/** How the tokens of one sequence are chosen, every default filled in. */
export interface SamplingParams {
  /** 0 = greedy. */
  readonly temperature: number;
  /** (0, 1]; 1 = off. */
  readonly topP: number;
  /** 0 = off. */
  readonly topK: number;
  /** > 0; 1 = off. Over prompt and generated tokens, as the published generation code does. */
  readonly repetitionPenalty: number;
  /** Generated tokens, at least 1. */
  readonly maxTokens: number;
  readonly minTokens: number;
  /** undefined = drawn at random when the sequence is admitted. */
  readonly seed: bigint | undefined;
  /** End-of-sequence ids of the model and the request's own stop ids; empty for none. Never delivered. */
  readonly stopTokenIds: readonly number[];
  /** The model's end-of-sequence ids are not in stopTokenIds and do not end the generation. */
  readonly ignoreEos: boolean;
}
