// How the end of a sequence is told to the outside.

import type { FinishReason, FinishedSequence } from './engine.ts';
import type { EndedSequence } from './scheduler.ts';

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
