// What the scheduler may use: memory, and work per step.

import type { EncodedImageLimits } from './encoded-images.ts';

export interface SchedulerLimits extends EncodedImageLimits {
  readonly kvBlocks: number;
  /** Tokens a block. */
  readonly blockSize: number;
  /** Prompt and generated tokens of one sequence. */
  readonly maxModelLength: number;
  /** The token budget of a step; at least maxSequences, so that every decode gets its token. */
  readonly maxBatchedTokens: number;
  /** Sequences running at once. */
  readonly maxSequences: number;
  /** A sequence that has waited this many steps is as urgent as the most urgent that wait; a tenant that has, is next. */
  readonly agingSteps: number;
  /** Sequences take over the blocks of a prefix that was computed before. */
  readonly prefixCache: boolean;
}

/** Throws RangeError for limits that cannot work. */
export function checkLimits(limits: SchedulerLimits): void {
  for (const [name, value] of Object.entries(limits) as [string, number | boolean][]) {
    if (typeof value === 'boolean') continue;
    const least = name === 'maxCachedImages' ? 0 : 1;
    if (!Number.isSafeInteger(value) || value < least) {
      throw new RangeError(
        `${name} is ${String(value)}: it must be a whole number of at least ${String(least)}`,
      );
    }
  }
  const { maxBatchedTokens, maxSequences } = limits;
  if (maxBatchedTokens < maxSequences) {
    throw new RangeError(
      `maxBatchedTokens is ${String(maxBatchedTokens)}: it must be at least maxSequences, ${String(maxSequences)}`,
    );
  }
}
