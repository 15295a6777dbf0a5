// How much prefill a step takes in beside sequences that decode, so that these wait about a target time for their next token.

import { FEW_PREFILL_TOKENS, StepCost } from './step-cost.ts';
import type { StepWork } from './step-cost.ts';

/**
 * Where decodes alone take longer than the target already (a large model on CPUs), a step may take this many times as long as they do: the weights
 * pass through memory once either way, and to hold prefill back further would starve it.
 */
const DECODE_MULTIPLE = 3;
/** A step takes in at most this many times the prefill tokens that recent ones had: few tokens can be free where many are not. */
const MOST_GROWTH = 4;
/**
 * Prefill tokens that a step always takes in: however slow the machine, every prompt gets on. So few that such a step teaches what decodes take: a target that was
 * too short because that was not known does not stay so.
 */
const LEAST_PREFILL_TOKENS = FEW_PREFILL_TOKENS;

/** A step as it was measured. */
export interface MeasuredStep extends StepWork {
  /** Pictures encoded in it. */
  readonly images: number;
  readonly us: number;
}

/** Learns what steps take and chooses prefill tokens by it. targetUs: microseconds, 0 = no target. */
export class StepPace {
  readonly #targetUs: number;
  readonly #cost = new StepCost();
  #warm = false;

  constructor(targetUs: number) {
    this.#targetUs = targetUs;
  }

  /**
   * Prefill tokens for a step in which so many sequences decode; Infinity when nobody waits for it or nothing is known yet. Multiples of the least: the
   * estimate moves with every step, the shapes of matrix products should not.
   */
  prefillTokens(decodes: number): number {
    const cost = this.#cost;
    if (this.#targetUs === 0 || decodes === 0 || cost.knownPrefillTokens === 0) return Infinity;
    const alone = cost.decodeUs(decodes);
    const target = Math.max(this.#targetUs, DECODE_MULTIPLE * alone);
    const most = (target - alone) / cost.perPrefillTokenUs;
    const tokens = Math.min(most, MOST_GROWTH * cost.knownPrefillTokens);
    return Math.max(LEAST_PREFILL_TOKENS, tokens - (tokens % LEAST_PREFILL_TOKENS));
  }

  /** The first step is none to learn from, since it warms the machine up; nor are steps that encode pictures, whose time is the vision tower's. */
  observe({ images, us, ...work }: MeasuredStep): void {
    if (this.#warm && images === 0) this.#cost.observe(work, us);
    this.#warm = true;
  }
}
