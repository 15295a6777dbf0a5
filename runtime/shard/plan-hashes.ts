/** More steps than can be under way while all ranks live: beyond it one has fallen behind for good. */
const MAX_OPEN_STEPS = 256;

interface OpenStep {
  hash: number | undefined;
  /** Ranks that have reported, and what. */
  readonly reports: Map<number, number>;
}

/** Compares every rank's plan hash of every step with rank 0's. */
export class PlanHashes {
  readonly #otherRanks: number;
  readonly #open = new Map<number, OpenStep>();

  constructor(otherRanks: number) {
    this.#otherRanks = otherRanks;
  }

  /** Steps that not every rank has reported. */
  get numOpen(): number {
    return this.#open.size;
  }

  /** Takes a rank's hash of a step; returns the rank that differs from rank 0 and how, undefined while all agree. */
  report(rank: number, step: number, hash: number): { rank: number; problem: string } | undefined {
    let open = this.#open.get(step);
    if (open === undefined) {
      open = { hash: undefined, reports: new Map() };
      this.#open.set(step, open);
    }
    if (rank === 0) open.hash = hash;
    else open.reports.set(rank, hash);
    if (open.hash === undefined) return this.#bound(rank, step);
    for (const [other, theirs] of open.reports) {
      if (theirs !== open.hash) {
        return {
          rank: other,
          problem: `its plan hash of step ${step} is ${theirs}, rank 0 has ${open.hash}`,
        };
      }
    }
    if (open.reports.size === this.#otherRanks) this.#open.delete(step);
    return this.#bound(rank, step);
  }

  #bound(rank: number, step: number): { rank: number; problem: string } | undefined {
    if (this.#open.size <= MAX_OPEN_STEPS) return undefined;
    return { rank, problem: `${this.#open.size} steps are not acknowledged by every rank at step ${step}` };
  }
}
