// Short ways to write submissions in tests.

import type { ImageSpan, Submission } from '../../runtime/engine/engine.ts';
import type { SamplingParams } from '../../runtime/engine/sampling-params.ts';

/** Greedy, four tokens, no stop ids. */
export const GREEDY: SamplingParams = {
  temperature: 0,
  topP: 1,
  topK: 0,
  repetitionPenalty: 1,
  maxTokens: 4,
  minTokens: 0,
  seed: undefined,
  stopTokenIds: [],
  ignoreEos: false,
};

/** A picture that is `name`: equal names are equal pictures. */
export function picture(name: string, offset: number, length: number): ImageSpan {
  return { hash: `hash-of-${name}`, offset, length, pixels: new TextEncoder().encode(name) };
}

/** `count` token ids, different for different `first`. */
export function promptOf(count: number, first = 1): Uint32Array {
  return Uint32Array.from({ length: count }, (_, index) => (first + index * 7) % 13);
}

/** A greedy text submission of four prompt tokens, parts replaced as given. */
export function submission(
  handle: number,
  parts: Partial<Omit<Submission, 'handle' | 'sampling'>> & {
    readonly sampling?: Partial<SamplingParams>;
  } = {},
): Submission {
  return {
    handle,
    tokenIds: promptOf(4, handle),
    images: [],
    logprobs: undefined,
    priority: 0,
    cacheSalt: '',
    ...parts,
    sampling: { ...GREEDY, ...parts.sampling },
  };
}
