// The step being planned. Nothing in it is final: a chosen sequence can still be preempted.

import type { Sequence } from './sequence.ts';

/** Tokens per chosen sequence, and how many more there may be. */
export class StepDraft {
  readonly #chosen = new Map<Sequence, number>();
  #budget: number;
  #preempted = false;

  /** budget: tokens that the step may have. */
  constructor(budget: number) {
    this.#budget = budget;
  }

  /** Tokens that may still be chosen. */
  get budget(): number {
    return this.#budget;
  }

  get chosen(): ReadonlyMap<Sequence, number> {
    return this.#chosen;
  }

  /** Some sequence was preempted for this step: then none is admitted, it would take the room that was just made. */
  get preempted(): boolean {
    return this.#preempted;
  }

  choose(sequence: Sequence, count: number): void {
    this.#chosen.set(sequence, count);
    this.#budget -= count;
  }

  /** Takes a sequence out again, if it was chosen. */
  preempt(victim: Sequence): void {
    this.#budget += this.#chosen.get(victim) ?? 0;
    this.#chosen.delete(victim);
    this.#preempted = true;
  }
}
