// Reads the packed arrays of a step's output.

import type { TokenLogprob } from '../gen/proto/internvl/v1/generation.ts';
import type { StepOutput } from '../gen/proto/internvl/engine/v1/engine.ts';

/** One handle's share of a step. */
export interface HandleTokens {
  readonly handle: number;
  readonly tokenIds: readonly number[];
  /** One entry a token when they were asked for, otherwise empty. */
  readonly logprobs: readonly TokenLogprob[];
}

/** A replica sent arrays that do not belong together: nothing in the message can be trusted. */
export class MalformedStepOutput extends Error {
  override readonly name = 'MalformedStepOutput';
  readonly code = 'malformed_step_output';
}

/** Cuts the step's tokens into one piece a handle; throws MalformedStepOutput. */
export function tokensByHandle(output: StepOutput): HandleTokens[] {
  const { handles, counts, tokenIds } = output;
  const total = counts.reduce((sum, count) => sum + count, 0);
  if (handles.length !== counts.length || total !== tokenIds.length) {
    throw new MalformedStepOutput(
      `step ${output.step}: ${handles.length} handles, ${counts.length} counts that add up to ${total}, ${tokenIds.length} tokens`,
    );
  }
  const logprobs = new Map(output.logprobs.map((entry) => [entry.handle, entry.tokens]));
  let offset = 0;
  return handles.map((handle, index) => {
    const count = counts[index]!;
    const tokens = tokenIds.slice(offset, offset + count);
    offset += count;
    return { handle, tokenIds: tokens, logprobs: logprobs.get(handle) ?? [] };
  });
}
