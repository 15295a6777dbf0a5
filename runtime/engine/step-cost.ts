// What a step takes, learned from the steps that were: base + perDecode * decodes + perPrefillToken * prefill tokens. Steps that (almost) only
// decode teach the first two numbers, the others the third, so that what a prefill costs is still known after an hour of decodes, and a backlog of
// prompts cannot pass its own time off as that of the decodes. Eight numbers of memory; equal steps give equal estimates.

/** What a step computes, as far as its duration goes. */
export interface StepWork {
  /** Sequences of one token each. */
  readonly decodes: number;
  /** Tokens of all other sequences. */
  readonly prefillTokens: number;
}

/** A step of no more prefill tokens teaches what decodes take: under a backlog of prompts there may be none without any. */
export const FEW_PREFILL_TOKENS = 16;
/** The weight of one more step: about the last 12 of its kind count. */
const WEIGHT = 1 / 12;
/** A step counts as at most this many times what was expected: a pause of the machine is hardly learned, a slower machine within some steps. */
const LONGEST = 2;
/** Steps of a kind before any of them can be called too long. */
const FIRST_STEPS = 4;

/** The estimate; times are microseconds. */
export class StepCost {
  // Of the steps that teach about decodes: exponentially weighted means, variance and covariance of decodes and time.
  #decodeSteps = 0;
  #decodes = 0;
  #decodeUs = 0;
  #variance = 0;
  #covariance = 0;
  // Of the others: means of prefill tokens and of the time that the decodes do not explain.
  #prefillSteps = 0;
  #prefillTokens = 0;
  #prefillUs = 0;

  /** What a step of decodes alone takes; 0 while nothing is known. */
  decodeUs(decodes: number): number {
    // + 1: where nearly all steps have the same number of decodes, what they take belongs to the base. Neither part is negative.
    const slope = clamp(this.#covariance / (this.#variance + 1), this.#decodeUs / Math.max(1, this.#decodes));
    return Math.max(0, this.#decodeUs + slope * (decodes - this.#decodes));
  }

  /** What one more prefill token adds to a step; 0 while nothing is known. */
  get perPrefillTokenUs(): number {
    return this.#prefillSteps === 0 ? 0 : Math.max(0, this.#prefillUs / this.#prefillTokens);
  }

  /** Prefill tokens of the steps that taught what one costs, on average: 0 while there was none. */
  get knownPrefillTokens(): number {
    return this.#prefillTokens;
  }

  /** Learns from a step that took `us`; one that took no time (a clock that stands still) says nothing. */
  observe({ decodes, prefillTokens }: StepWork, us: number): void {
    if (!(us > 0 && us < Infinity)) return;
    const decodeUs = this.decodeUs(decodes);
    const expected = decodeUs + prefillTokens * this.perPrefillTokenUs;
    const aboutDecodes = prefillTokens <= FEW_PREFILL_TOKENS;
    const steps = aboutDecodes ? this.#decodeSteps : this.#prefillSteps;
    const counted = steps < FIRST_STEPS ? us : Math.min(us, LONGEST * expected);
    if (aboutDecodes) this.#learnDecodes(decodes, counted);
    else this.#learnPrefill(prefillTokens, counted - decodeUs);
  }

  #learnDecodes(decodes: number, us: number): void {
    this.#decodeSteps += 1;
    const weight = Math.max(WEIGHT, 1 / this.#decodeSteps);
    const moreDecodes = decodes - this.#decodes;
    const moreUs = us - this.#decodeUs;
    this.#decodes += weight * moreDecodes;
    this.#decodeUs += weight * moreUs;
    this.#variance = (1 - weight) * (this.#variance + weight * moreDecodes * moreDecodes);
    this.#covariance = (1 - weight) * (this.#covariance + weight * moreDecodes * moreUs);
  }

  #learnPrefill(tokens: number, us: number): void {
    this.#prefillSteps += 1;
    const weight = Math.max(WEIGHT, 1 / this.#prefillSteps);
    this.#prefillTokens += weight * (tokens - this.#prefillTokens);
    this.#prefillUs += weight * (us - this.#prefillUs);
  }
}

function clamp(value: number, most: number): number {
  return Math.min(most, Math.max(0, value));
}
