// How the end of a sequence is told to the outside.

import type { FinishReason, FinishedSequence } from './engine.ts';
import type { Sequence } from './sequence.ts';

/** A sequence that the scheduler has ended, and why. */
export interface EndedSequence {
  readonly sequence: Sequence;
  readonly reason: FinishReason;
  readonly matchedStopTokenId: number | undefined;
  /** Set when reason is 'error'. */
  readonly message: string | undefined;
}

/** nowUs: microseconds of the engine's clock; phases that the sequence did not reach count 0. */
export function finishedSequence(
  { sequence, reason, matchedStopTokenId, message }: EndedSequence,
  nowUs: number,
): FinishedSequence {
  const since = (us: number | undefined): number =>
    us === undefined ? 0 : Math.round(us - sequence.submittedUs);
  return {
    handle: sequence.handle,
    reason: reason satisfies FinishReason,
    matchedStopTokenId,
    cachedTokens: sequence.cachedTokens,
    queueUs: since(sequence.scheduledUs ?? nowUs),
    firstTokenUs: since(sequence.firstTokenUs),
    totalUs: since(nowUs),
    message,
  };
}
