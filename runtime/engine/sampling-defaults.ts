// What a request leaves out of its sampling: the model's generation_config.json decides, then Hugging Face's defaults.

import type { SamplingParams } from './sampling-params.ts';

/** A request's sampling as it came; undefined or absent = the default. */
export interface RequestedSampling {
  readonly temperature?: number | undefined;
  readonly topP?: number | undefined;
  readonly topK?: number | undefined;
  readonly repetitionPenalty?: number | undefined;
  readonly maxTokens?: number | undefined;
  readonly minTokens?: number | undefined;
  readonly seed?: bigint | undefined;
  readonly stopTokenIds?: readonly number[] | undefined;
  readonly ignoreEos?: boolean | undefined;
}

export interface SamplingDefaults {
  /** The parsed generation_config.json, undefined when the checkpoint has none. Values of wrong types count as absent. */
  readonly generationConfig: Readonly<Record<string, unknown>> | undefined;
  readonly eosTokenIds: readonly number[];
}

/** Generated tokens when the request does not say. */
export const DEFAULT_MAX_TOKENS = 512;

/**
 * Fills in what the request leaves out. room: tokens that the context has left after the prompt. Request values are taken as they are:
 * checkSubmission judges the result.
 */
export function resolveSampling(
  request: RequestedSampling,
  { generationConfig = {}, eosTokenIds }: SamplingDefaults,
  room: number,
): SamplingParams {
  const configured = (key: string, otherwise: number): number => {
    const value = generationConfig[key];
    return typeof value === 'number' && Number.isFinite(value) ? value : otherwise;
  };
  const ignoreEos = request.ignoreEos ?? false;
  // A model that samples by default does so with its temperature, else 1; one that does not is greedy until a request gives a temperature.
  const samples = generationConfig['do_sample'] === true;
  const stops = [...(ignoreEos ? [] : eosTokenIds), ...(request.stopTokenIds ?? [])];
  return {
    temperature: request.temperature ?? (samples ? configured('temperature', 1) : 0),
    topP: request.topP ?? configured('top_p', 1),
    topK: request.topK ?? configured('top_k', 0),
    repetitionPenalty: request.repetitionPenalty ?? configured('repetition_penalty', 1),
    maxTokens: request.maxTokens ?? Math.max(1, Math.min(DEFAULT_MAX_TOKENS, room)),
    minTokens: request.minTokens ?? 0,
    seed: request.seed,
    stopTokenIds: [...new Set(stops)],
    ignoreEos,
  };
}
