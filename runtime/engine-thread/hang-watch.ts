/**
 * Says for how long a counter has stood still while it should have risen. Time counts only as far as it was watched: when this process
 * itself was stopped for a while, the gap counts as one interval, so that it does not take its own sleep for its peer's.
 */
export class HangWatch {
  readonly #maxIntervalMs: number;
  #counter: number | undefined;
  #observedAt: number | undefined;
  #stalledMs = 0;

  /** maxIntervalMs: the most that one interval between observations counts. */
  constructor(maxIntervalMs: number) {
    this.#maxIntervalMs = maxIntervalMs;
  }

  /** Milliseconds without progress as of the last observation; 0 when idle. */
  get stalledMs(): number {
    return this.#stalledMs;
  }

  /** Notes the counter at `now` (milliseconds of a monotonic clock); busy: it should rise. Returns stalledMs. */
  observe(counter: number, busy: boolean, now: number): number {
    const interval =
      this.#observedAt === undefined ? 0 : Math.min(now - this.#observedAt, this.#maxIntervalMs);
    this.#observedAt = now;
    if (!busy || counter !== this.#counter) this.#stalledMs = 0;
    else this.#stalledMs += interval;
    this.#counter = counter;
    return this.#stalledMs;
  }
}
