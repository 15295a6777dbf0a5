// A replica's speed, measured from what its steps report. Fading averages: a replica whose neighbour starts to steal its memory
// bandwidth is noticed within some dozens of requests.

import type { ReplicaRates } from './cost.ts';

/** Weight of a new observation. */
const FADE = 0.1;
/** Samples before an estimate is believed. */
const ENOUGH = 3;
/** Batch sizes must have varied by this much (variance) before a slope can be read off. */
const LEAST_VARIANCE = 0.25;

/** Estimates one replica's rates; undefined fields have not been measured. */
export class RateEstimator {
  #prefillTokens = 0;
  #prefillSeconds = 0;
  #prefillSamples = 0;
  #steps = 0;
  #meanRunning = 0;
  #meanSeconds = 0;
  #variance = 0;
  #covariance = 0;

  /**
   * A prompt's `uncachedTokens` took `seconds` from first schedule to first token. A prompt counts by its tokens: of one that was nearly all cached the time
   * is a step's, whatever the rate.
   */
  prefill(uncachedTokens: number, seconds: number): void {
    if (!(uncachedTokens > 0) || !(seconds > 0)) return;
    this.#prefillTokens += FADE * (uncachedTokens - this.#prefillTokens);
    this.#prefillSeconds += FADE * (seconds - this.#prefillSeconds);
    this.#prefillSamples++;
  }

  /** A step with `running` sequences and no prompt to catch up on took `seconds`. */
  step(running: number, seconds: number): void {
    if (!(running > 0) || !(seconds > 0)) return;
    if (this.#steps++ === 0) {
      this.#meanRunning = running;
      this.#meanSeconds = seconds;
      return;
    }
    const byRunning = running - this.#meanRunning;
    const bySeconds = seconds - this.#meanSeconds;
    this.#meanRunning += FADE * byRunning;
    this.#meanSeconds += FADE * bySeconds;
    this.#variance = (1 - FADE) * (this.#variance + FADE * byRunning * byRunning);
    this.#covariance = (1 - FADE) * (this.#covariance + FADE * byRunning * bySeconds);
  }

  get prefillTokensPerSecond(): number | undefined {
    return this.#prefillSamples >= ENOUGH ? this.#prefillTokens / this.#prefillSeconds : undefined;
  }

  get stepSecondsPerSequence(): number | undefined {
    if (this.#steps < ENOUGH || this.#variance < LEAST_VARIANCE) return undefined;
    return Math.max(0, this.#covariance / this.#variance);
  }
}

/** Rates of each replica; what one lacks is taken from the mean of its siblings, so that an unmeasured one does not look fastest. */
export function fillRates(estimates: readonly RateEstimator[], defaults: ReplicaRates): ReplicaRates[] {
  const prefill =
    mean(estimates.map((estimate) => estimate.prefillTokensPerSecond)) ?? defaults.prefillTokensPerSecond;
  const slope =
    mean(estimates.map((estimate) => estimate.stepSecondsPerSequence)) ?? defaults.stepSecondsPerSequence;
  return estimates.map((estimate) => ({
    prefillTokensPerSecond: estimate.prefillTokensPerSecond ?? prefill,
    stepSecondsPerSequence: estimate.stepSecondsPerSequence ?? slope,
  }));
}

function mean(values: readonly (number | undefined)[]): number | undefined {
  const known = values.filter((value) => value !== undefined);
  return known.length === 0 ? undefined : known.reduce((sum, value) => sum + value, 0) / known.length;
}
