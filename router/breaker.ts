// Takes a replica out after repeated failures and lets it back after one successful probe.

export interface BreakerOptions {
  /** Outcomes older than this no longer count. */
  readonly windowMs: number;
  /** At most this many outcomes are remembered. */
  readonly windowSize: number;
  /** Fewer outcomes than this never open it. */
  readonly leastOutcomes: number;
  /** Opens when at least this share of the outcomes failed. */
  readonly failureRatio: number;
  /** Open this long before a probe, doubled with each failed probe up to `mostOpenMs`. */
  readonly openMs: number;
  readonly mostOpenMs: number;
}

export const DEFAULT_BREAKER: BreakerOptions = {
  windowMs: 30_000,
  windowSize: 50,
  leastOutcomes: 5,
  failureRatio: 0.5,
  openMs: 1_000,
  mostOpenMs: 30_000,
};

/** closed: requests pass · open: none do · half-open: one probe is under way. */
export type BreakerState = 'closed' | 'open' | 'half-open';

/** Rolling ratio of failures of one replica. Times are milliseconds of one monotonic clock. */
export class Breaker {
  readonly #options: BreakerOptions;
  #outcomes: { readonly at: number; readonly failed: boolean }[] = [];
  /** Of the outcomes; while there is none, which is nearly always, nothing else need be looked at. */
  #failures = 0;
  #state: BreakerState = 'closed';
  #openedAt = 0;
  #openMs: number;

  constructor(options: BreakerOptions = DEFAULT_BREAKER) {
    this.#options = options;
    this.#openMs = options.openMs;
  }

  get state(): BreakerState {
    return this.#state;
  }

  /** Counts a request's outcome; true when this one opened the breaker. */
  record(failed: boolean, now: number): boolean {
    this.#outcomes.push({ at: now, failed });
    if (failed) this.#failures++;
    if (this.#outcomes.length > this.#options.windowSize && this.#outcomes.shift()!.failed) this.#failures--;
    if (this.#state !== 'closed' || this.#failures === 0) return false;
    const recent = this.#recent(now);
    if (recent.length < this.#options.leastOutcomes || this.ratio(now) < this.#options.failureRatio)
      return false;
    this.#state = 'open';
    this.#openedAt = now;
    return true;
  }

  /** Share of recent outcomes that failed, 0 when there are none. */
  ratio(now: number): number {
    if (this.#failures === 0) return 0;
    const recent = this.#recent(now);
    return recent.length === 0 ? 0 : recent.filter((outcome) => outcome.failed).length / recent.length;
  }

  /** True exactly once per open period, when it is over: the caller then owns the one probe and must report it. */
  takeProbe(now: number): boolean {
    if (this.#state !== 'open' || now - this.#openedAt < this.#openMs) return false;
    this.#state = 'half-open';
    return true;
  }

  probed(passed: boolean, now: number): void {
    if (this.#state !== 'half-open') return;
    if (passed) {
      this.reset();
      return;
    }
    this.#state = 'open';
    this.#openedAt = now;
    this.#openMs = Math.min(this.#options.mostOpenMs, this.#openMs * 2);
  }

  /** The probe could not be made (its session ended): another one may be taken at once. */
  probeLost(): void {
    if (this.#state === 'half-open') this.#state = 'open';
  }

  /** Forgets everything: the replica was restarted, or its probe passed. */
  reset(): void {
    this.#state = 'closed';
    this.#outcomes = [];
    this.#failures = 0;
    this.#openMs = this.#options.openMs;
  }

  #recent(now: number): readonly { readonly failed: boolean }[] {
    return this.#outcomes.filter((outcome) => now - outcome.at <= this.#options.windowMs);
  }
}

export interface Ejectable {
  readonly ejected: boolean;
  /** Share of recent requests that failed. */
  readonly failureRatio: number;
}

/** The replicas that may serve: those not ejected, or the least bad ones when all are; never empty unless `replicas` is. */
export function admissible<T extends Ejectable>(replicas: readonly T[]): T[] {
  const admitted = replicas.filter((replica) => !replica.ejected);
  if (admitted.length > 0 || replicas.length === 0) return admitted;
  const least = Math.min(...replicas.map((replica) => replica.failureRatio));
  return replicas.filter((replica) => replica.failureRatio === least);
}
