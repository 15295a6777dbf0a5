// Reads the packed arrays of a step's output, a part at a time.

import type { TokenLogprob } from '../gen/proto/internvl/v1/generation.ts';
import type { StepOutput } from '../gen/proto/internvl/engine/v1/engine.ts';

/** A replica sent arrays that do not belong together: nothing in the message can be trusted. */
export class MalformedStepOutput extends Error {
  override readonly name = 'MalformedStepOutput';
  readonly code = 'malformed_step_output';
}

/** Takes the tokens of a handle, with one log-probability a token when they were asked for. */
export type GiveTokens = (
  handle: number,
  tokenIds: readonly number[],
  logprobs: readonly TokenLogprob[],
) => void;

const NO_LOGPROBS: readonly TokenLogprob[] = [];

/** The tokens of one step; each handle gets its own once. */
export class StepTokens {
  readonly #output: StepOutput;
  readonly #logprobs: ReadonlyMap<number, readonly TokenLogprob[]>;
  #given: ReadonlySet<number> = new Set();
  #index = 0;
  #offset = 0;

  /** Throws MalformedStepOutput. */
  constructor(output: StepOutput) {
    const { handles, counts, tokenIds } = output;
    let total = 0;
    for (const count of counts) total += count;
    if (handles.length !== counts.length || total !== tokenIds.length) {
      throw new MalformedStepOutput(
        `step ${output.step}: ${handles.length} handles, ${counts.length} counts that add up to ${total}, ${tokenIds.length} tokens`,
      );
    }
    this.#output = output;
    this.#logprobs = new Map(output.logprobs.map((entry) => [entry.handle, entry.tokens]));
  }

  /** Gives these handles their tokens before all others; once, and before `next`. */
  first(urgent: ReadonlySet<number>, give: GiveTokens): void {
    this.#given = urgent;
    if (urgent.size === 0) return;
    const { handles, counts } = this.#output;
    let offset = 0;
    for (let index = 0; index < handles.length; index++) {
      if (urgent.has(handles[index]!)) this.#give(index, offset, give);
      offset += counts[index]!;
    }
  }

  /** Gives at most `count` further handles their tokens, and returns how many it gave: fewer than `count` when none is left. */
  next(count: number, give: GiveTokens): number {
    const { handles, counts } = this.#output;
    let given = 0;
    while (given < count && this.#index < handles.length) {
      const index = this.#index++;
      const offset = this.#offset;
      this.#offset = offset + counts[index]!;
      if (this.#given.size > 0 && this.#given.has(handles[index]!)) continue;
      this.#give(index, offset, give);
      given++;
    }
    return given;
  }

  #give(index: number, offset: number, give: GiveTokens): void {
    const { handles, counts, tokenIds } = this.#output;
    const handle = handles[index]!;
    const logprobs = this.#logprobs.size === 0 ? undefined : this.#logprobs.get(handle);
    give(handle, tokenIds.slice(offset, offset + counts[index]!), logprobs ?? NO_LOGPROBS);
  }
}
