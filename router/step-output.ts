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

interface Piece {
  readonly tokenIds: readonly number[];
  readonly logprobs: readonly TokenLogprob[];
}

const NO_LOGPROBS: readonly TokenLogprob[] = [];

/** The tokens of one step, and what was left of the steps before; each handle gets its own once. */
export class StepTokens {
  readonly #output: StepOutput;
  readonly #logprobs: ReadonlyMap<number, readonly TokenLogprob[]>;
  /** In the place of the arrays when steps come faster than they are handed on; who waits longest is first. */
  readonly #joined: Map<number, Piece> | undefined;
  #given: ReadonlySet<number> = new Set();
  #index = 0;
  #offset = 0;

  /** What `before` has left is this one's: a stream that is behind gets all its tokens at once. Throws MalformedStepOutput. */
  constructor(output: StepOutput, before?: StepTokens) {
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
    const left = before === undefined ? undefined : before.#rest();
    if (left !== undefined && left.size > 0) this.#joined = joined(left, this.#rest());
  }

  /** Gives these handles their tokens before all others; once, and before `next`. */
  first(urgent: ReadonlySet<number>, give: GiveTokens): void {
    if (urgent.size === 0) return;
    if (this.#joined !== undefined) {
      for (const handle of urgent) take(this.#joined, handle, give);
      return;
    }
    this.#given = urgent;
    const { handles, counts } = this.#output;
    let offset = 0;
    for (let index = 0; index < handles.length; index++) {
      if (urgent.has(handles[index]!)) this.#give(index, offset, give);
      offset += counts[index]!;
    }
  }

  /** Gives at most `count` further handles their tokens, and returns how many it gave: fewer than `count` when none is left. */
  next(count: number, give: GiveTokens): number {
    let given = 0;
    if (this.#joined !== undefined) {
      for (const handle of this.#joined.keys()) {
        if (given === count) break;
        take(this.#joined, handle, give);
        given++;
      }
      return given;
    }
    const { handles, counts } = this.#output;
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

  /** What `next` would give. Afterwards there is nothing left. */
  #rest(): Map<number, Piece> {
    const rest = new Map<number, Piece>();
    this.next(Infinity, (handle, tokenIds, logprobs) => rest.set(handle, { tokenIds, logprobs }));
    return rest;
  }
}

/** Gives a handle its piece, if there is one, and takes it away. */
function take(pieces: Map<number, Piece>, handle: number, give: GiveTokens): void {
  const piece = pieces.get(handle);
  if (piece === undefined) return;
  pieces.delete(handle);
  give(handle, piece.tokenIds, piece.logprobs);
}

/** `earlier` with what `later` has for the same handles behind it, then the rest of `later`. */
function joined(earlier: Map<number, Piece>, later: ReadonlyMap<number, Piece>): Map<number, Piece> {
  for (const [handle, { tokenIds, logprobs }] of later) {
    const piece = earlier.get(handle);
    earlier.set(
      handle,
      piece === undefined
        ? { tokenIds, logprobs }
        : { tokenIds: [...piece.tokenIds, ...tokenIds], logprobs: [...piece.logprobs, ...logprobs] },
    );
  }
  return earlier;
}
