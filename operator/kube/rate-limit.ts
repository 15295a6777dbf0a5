// How long to wait before trying again: exponential per key, with jitter so that many keys that failed together do not return together. Pure state.

export interface BackoffOptions {
  readonly firstMs: number;
  readonly longestMs: number;
  /** In [0, 1). */
  readonly random: () => number;
}

/** Delay after the `failures`-th failure in a row (1-based): first x 2^(n-1), up to a quarter less by jitter, never above the longest. */
export function backoffMs(failures: number, { firstMs, longestMs, random }: BackoffOptions): number {
  const full = Math.min(longestMs, firstMs * 2 ** Math.min(failures - 1, 52));
  return full * (1 - 0.25 * random());
}

/** One sequence of failures. */
export class Backoff {
  readonly #options: BackoffOptions;
  #failures = 0;

  constructor(options: BackoffOptions) {
    this.#options = options;
  }

  get failures(): number {
    return this.#failures;
  }

  next(): number {
    this.#failures += 1;
    return backoffMs(this.#failures, this.#options);
  }

  reset(): void {
    this.#failures = 0;
  }
}

/** Failures in a row for each key; holds only keys that failed and were not forgotten since. */
export class KeyedBackoff<Key> {
  readonly #failures = new Map<Key, number>();
  readonly #options: BackoffOptions;

  constructor(options: BackoffOptions) {
    this.#options = options;
  }

  next(key: Key): number {
    const failures = (this.#failures.get(key) ?? 0) + 1;
    this.#failures.set(key, failures);
    return backoffMs(failures, this.#options);
  }

  failures(key: Key): number {
    return this.#failures.get(key) ?? 0;
  }

  forget(key: Key): void {
    this.#failures.delete(key);
  }

  get size(): number {
    return this.#failures.size;
  }
}
