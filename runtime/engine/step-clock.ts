// What steps take: from the end of the step before, so that between steps that follow each other nothing is left out, whoever spent it.

import type { StepDuration } from './engine.ts';

/** Measures by two clocks that never go back, in microseconds: the time, and the time spent inside native operations. */
export class StepClock {
  readonly #now: () => number;
  readonly #nativeNow: () => number;
  #us: number;
  #nativeUs: number;

  constructor(now: () => number, nativeNow: () => number = () => 0) {
    this.#now = now;
    this.#nativeNow = nativeNow;
    this.#us = now();
    this.#nativeUs = nativeNow();
  }

  /** Since the last take. */
  get elapsedUs(): number {
    return this.#now() - this.#us;
  }

  /** Time since the last call: call at the end of a step, and when work comes after a rest. */
  take(): StepDuration {
    const now = this.#now();
    const nativeNow = this.#nativeNow();
    const duration = { us: Math.round(now - this.#us), nativeUs: Math.round(nativeNow - this.#nativeUs) };
    this.#us = now;
    this.#nativeUs = nativeNow;
    return duration;
  }
}
