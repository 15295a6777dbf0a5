// From tokens to what the client sees. Text that could be the start of a stop string is held back until it is clear that it is none, so
// a client never sees a part of what the answer is cut before.

/** Turns tokens into text, holding bytes of an incomplete character back. */
export interface IncrementalDetokenizer {
  push(tokenIds: readonly number[]): string;
  /** What is still held back; the answer is over. */
  flush(): string;
}

export interface StopRule {
  readonly stops: readonly string[];
  /** A stop string that is complete before this many tokens is part of the answer. */
  readonly minTokens: number;
}

export interface OutputPiece {
  readonly text: string;
  /** How many of the pushed tokens belong to the answer; the rest came after its end. */
  readonly tokens: number;
  /** The stop string that ended it; nothing may be pushed after. */
  readonly matchedStop: string | undefined;
}

/** The text of one answer, token by token. */
export class AnswerText {
  readonly #detokenizer: IncrementalDetokenizer;
  readonly #rule: StopRule;
  /** Text that is not sent yet. */
  #held = '';
  /** Occurrences that end at or before this offset of `#held` came too early to stop at. */
  #tooEarly = 0;
  #tokens = 0;
  #ended = false;

  constructor(detokenizer: IncrementalDetokenizer, rule: StopRule) {
    this.#detokenizer = detokenizer;
    this.#rule = rule;
  }

  /** Tokens of the answer so far. */
  get tokens(): number {
    return this.#tokens;
  }

  push(tokenIds: readonly number[]): OutputPiece {
    if (this.#ended) return { text: '', tokens: 0, matchedStop: undefined };
    if (this.#rule.stops.length === 0) {
      this.#tokens += tokenIds.length;
      return { text: this.#detokenizer.push(tokenIds), tokens: tokenIds.length, matchedStop: undefined };
    }
    let text = '';
    for (const [index, tokenId] of tokenIds.entries()) {
      this.#held += this.#detokenizer.push([tokenId]);
      this.#tokens++;
      const stop =
        this.#tokens >= this.#rule.minTokens
          ? firstStop(this.#held, this.#rule.stops, this.#tooEarly)
          : undefined;
      if (stop !== undefined) {
        text += this.#held.slice(0, stop.at);
        this.#end();
        return { text, tokens: index + 1, matchedStop: stop.text };
      }
      if (this.#tokens < this.#rule.minTokens) this.#tooEarly = this.#held.length;
      text += this.#release();
    }
    return { text, tokens: tokenIds.length, matchedStop: undefined };
  }

  /** The rest of the text, when the replica ended the answer. The last, incomplete character may complete a stop string. */
  finish(): OutputPiece {
    if (this.#ended) return { text: '', tokens: 0, matchedStop: undefined };
    const held = this.#held + this.#detokenizer.flush();
    const stop =
      this.#tokens >= this.#rule.minTokens ? firstStop(held, this.#rule.stops, this.#tooEarly) : undefined;
    this.#end();
    return { text: stop === undefined ? held : held.slice(0, stop.at), tokens: 0, matchedStop: stop?.text };
  }

  #release(): string {
    const keep = heldBack(this.#held, this.#rule.stops);
    const cut = this.#held.length - keep;
    const text = this.#held.slice(0, cut);
    this.#held = this.#held.slice(cut);
    this.#tooEarly = Math.max(0, this.#tooEarly - cut);
    return text;
  }

  #end(): void {
    this.#ended = true;
    this.#held = '';
  }
}

/** The stop string that occurs first in `text` among occurrences that end after `tooEarly`. */
function firstStop(
  text: string,
  stops: readonly string[],
  tooEarly: number,
): { readonly at: number; readonly text: string } | undefined {
  let first: { at: number; text: string } | undefined;
  for (const stop of stops) {
    const at = text.indexOf(stop, Math.max(0, tooEarly - stop.length + 1));
    if (at >= 0 && (first === undefined || at < first.at)) first = { at, text: stop };
  }
  return first;
}

/** Length of the longest end of `text` that is the beginning of a stop string. */
function heldBack(text: string, stops: readonly string[]): number {
  let longest = 0;
  for (const stop of stops) {
    for (let length = Math.min(text.length, stop.length - 1); length > longest; length--) {
      if (text.endsWith(stop.slice(0, length))) longest = length;
    }
  }
  return longest;
}
