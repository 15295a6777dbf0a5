// Where the time of a cold start goes.

/**
 * In order: `process` until the program runs, `open` the checkpoint's headers and the plan of what to read, `join` until every rank of the group is up,
 * `preflight` until their links are measured, `weights` until every rank has them, `kv_cache` with the group's connections, `warm_up` the first generation.
 */
export type StartupPhase = 'process' | 'open' | 'join' | 'preflight' | 'weights' | 'kv_cache' | 'warm_up';

/** The phases that have ended. Each began where the one before it ended, so that they add up to the whole. */
export class StartupPhases {
  readonly #now: () => number;
  readonly #milliseconds = new Map<StartupPhase, number>();
  #endedAt = 0;

  /** now: milliseconds since the process began. */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  /** Ends a phase; one that comes again, as when rank 0 joins once more, adds to what it took. */
  end(phase: StartupPhase): void {
    const now = this.#now();
    this.#milliseconds.set(phase, (this.#milliseconds.get(phase) ?? 0) + now - this.#endedAt);
    this.#endedAt = now;
  }

  /** Whole milliseconds by phase. */
  get milliseconds(): Readonly<Partial<Record<StartupPhase, number>>> {
    return Object.fromEntries([...this.#milliseconds].map(([phase, ms]) => [phase, Math.round(ms)]));
  }
}
