// Keys that need handling: each at most once in the queue, never with two workers at once, and none lost when it is added while being handled.
import type { Clock } from './clock.ts';
import { SYSTEM_CLOCK } from './clock.ts';
import { KeyedBackoff } from './rate-limit.ts';

/** Told as it happens; names after client-go's workqueue metrics. */
export interface QueueObserver {
  /** workqueue_adds_total */
  added?(): void;
  /** workqueue_retries_total */
  retried?(): void;
  /** workqueue_queue_duration_seconds */
  queued?(seconds: number): void;
  /** workqueue_work_duration_seconds */
  worked?(seconds: number): void;
}

export interface WorkQueueOptions {
  readonly random: () => number;
  readonly clock?: Clock;
  readonly observer?: QueueObserver;
  /** Delay after a key's first failure; default 5 ms. */
  readonly firstDelayMs?: number;
  /** Default 60 s. */
  readonly longestDelayMs?: number;
}

export class WorkQueue<Key> {
  /** Every element is in #dirty and not in #processing. */
  readonly #ready: Key[] = [];
  /** Needs handling, with the monotonic time since when. */
  readonly #dirty = new Map<Key, number>();
  /** Being handled, with the monotonic time since when. */
  readonly #processing = new Map<Key, number>();
  readonly #delayed = new Map<Key, { readonly due: number; readonly cancel: () => void }>();
  readonly #takers: ((key: Key | undefined) => void)[] = [];
  readonly #backoff: KeyedBackoff<Key>;
  readonly #clock: Clock;
  readonly #observer: QueueObserver;
  #closed = false;

  constructor(options: WorkQueueOptions) {
    this.#clock = options.clock ?? SYSTEM_CLOCK;
    this.#observer = options.observer ?? {};
    this.#backoff = new KeyedBackoff({
      firstMs: options.firstDelayMs ?? 5,
      longestMs: options.longestDelayMs ?? 60_000,
      random: options.random,
    });
  }

  /** Keys waiting for a worker (workqueue_depth). */
  get depth(): number {
    return this.#ready.length;
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** Age of all work in progress together (workqueue_unfinished_work_seconds): grows without end when a worker hangs. */
  get unfinishedWorkSeconds(): number {
    const now = this.#clock.monotonic();
    let seconds = 0;
    for (const since of this.#processing.values()) seconds += (now - since) / 1000;
    return seconds;
  }

  /** workqueue_longest_running_processor_seconds */
  get longestRunningSeconds(): number {
    const now = this.#clock.monotonic();
    let longest = 0;
    for (const since of this.#processing.values()) longest = Math.max(longest, (now - since) / 1000);
    return longest;
  }

  add(key: Key): void {
    if (this.#closed || this.#dirty.has(key)) return; // already waiting: one handling answers both
    this.#observer.added?.();
    this.#dirty.set(key, this.#clock.monotonic());
    if (!this.#processing.has(key)) this.#push(key); // else done() hands it out again
  }

  /** Adds the key after a while; of several delays for one key the earliest wins. */
  addAfter(key: Key, delayMs: number): void {
    if (this.#closed) return;
    if (delayMs <= 0) return this.add(key);
    const due = this.#clock.monotonic() + delayMs;
    const earlier = this.#delayed.get(key);
    if (earlier !== undefined) {
      if (earlier.due <= due) return;
      earlier.cancel();
    }
    const cancel = this.#clock.after(Math.min(delayMs, LONGEST_TIMER_MS), () => {
      this.#delayed.delete(key);
      this.add(key);
    });
    this.#delayed.set(key, { due, cancel });
  }

  /** Adds the key after its backoff, or after `atLeastMs` when that is longer. Returns the delay. */
  addRateLimited(key: Key, atLeastMs = 0): number {
    if (this.#closed) return 0;
    this.#observer.retried?.();
    const delayMs = Math.max(this.#backoff.next(key), atLeastMs);
    this.addAfter(key, delayMs);
    return delayMs;
  }

  /** The key succeeded: its next failure starts from the shortest delay. */
  forget(key: Key): void {
    this.#backoff.forget(key);
  }

  /** Failures in a row. */
  failures(key: Key): number {
    return this.#backoff.failures(key);
  }

  /** The next key, in the order of adding; undefined once the queue is closed. `done` must follow. */
  take(): Promise<Key | undefined> {
    if (this.#closed) return Promise.resolve(undefined);
    if (this.#ready.length > 0) return Promise.resolve(this.#begin(this.#ready.shift()!));
    return new Promise((resolve) => this.#takers.push(resolve));
  }

  done(key: Key): void {
    const since = this.#processing.get(key);
    if (since === undefined) return;
    this.#processing.delete(key);
    this.#observer.worked?.((this.#clock.monotonic() - since) / 1000);
    if (this.#dirty.has(key)) this.#push(key);
  }

  /** Hands out nothing more; keys that wait are dropped. */
  close(): void {
    this.#closed = true;
    for (const { cancel } of this.#delayed.values()) cancel();
    this.#delayed.clear();
    this.#ready.length = 0;
    this.#dirty.clear();
    for (const taker of this.#takers.splice(0)) taker(undefined);
  }

  #push(key: Key): void {
    const taker = this.#takers.shift();
    if (taker === undefined) this.#ready.push(key);
    else taker(this.#begin(key));
  }

  #begin(key: Key): Key {
    const now = this.#clock.monotonic();
    const since = this.#dirty.get(key) ?? now;
    this.#dirty.delete(key);
    this.#processing.set(key, now);
    this.#observer.queued?.((now - since) / 1000);
    return key;
  }
}

/** setTimeout fires at once above 2^31 - 1 ms; a key that comes a little early does no harm. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;
