// Reads the packed arrays of a step's output.

import type { TokenLogprob } from '../gen/proto/internvl/v1/generation.ts';
import type { StepOutput } from '../gen/proto/internvl/engine/v1/engine.ts';

/** A replica sent arrays that do not belong together: nothing in the message can be trusted. */
export class MalformedStepOutput extends Error {
  override readonly name = 'MalformedStepOutput';
  readonly code = 'malformed_step_output';
}

const NO_LOGPROBS: readonly TokenLogprob[] = [];

/** Gives each handle its tokens of the step, with one log-probability a token when they were asked for; throws MalformedStepOutput before the first. */
export function eachHandle(
  output: StepOutput,
  give: (handle: number, tokenIds: readonly number[], logprobs: readonly TokenLogprob[]) => void,
): void {
  const { handles, counts, tokenIds } = output;
  let total = 0;
  for (const count of counts) total += count;
  if (handles.length !== counts.length || total !== tokenIds.length) {
    throw new MalformedStepOutput(
      `step ${output.step}: ${handles.length} handles, ${counts.length} counts that add up to ${total}, ${tokenIds.length} tokens`,
    );
  }
  const logprobs = new Map(output.logprobs.map((entry) => [entry.handle, entry.tokens]));
  let offset = 0;
  for (let index = 0; index < handles.length; index++) {
    const handle = handles[index]!;
    const end = offset + counts[index]!;
    give(handle, tokenIds.slice(offset, end), logprobs.get(handle) ?? NO_LOGPROBS);
    offset = end;
  }
}
