// Workers over a queue of keys. A reconcile gets a key and nothing else: what to do follows from the state at that time, not from the event.
import type { Clock } from './clock.ts';
import { sleep, SYSTEM_CLOCK } from './clock.ts';
import { ApiError, asError, isConflict, TerminalError } from './errors.ts';
import type { Log } from './log.ts';
import type { Key } from './object.ts';
import type { WorkQueue } from './work-queue.ts';

export interface ReconcileResult {
  /** Handle the key again after this long, even if nothing changes; absent: not before something does. */
  readonly requeueAfterMs?: number | undefined;
}

/** `signal` is aborted at the reconcile's deadline and when the controller stops. */
export type Reconcile = (key: Key, signal: AbortSignal) => Promise<ReconcileResult | void>;

/** Told as it happens; names after controller-runtime's metrics. */
export interface ControllerObserver {
  /** controller_runtime_reconcile_total{result}; `error` is also controller_runtime_reconcile_errors_total, `terminal` …_terminal_reconcile_errors_total */
  reconciled?(result: 'success' | 'requeue_after' | 'conflict' | 'error' | 'terminal', seconds: number): void;
  /** controller_runtime_active_workers */
  activeWorkers?(count: number): void;
}

export interface ControllerOptions {
  readonly queue: WorkQueue<Key>;
  readonly reconcile: Reconcile;
  readonly log: Log;
  readonly random: () => number;
  /** Reconciles at the same time, of different keys; default 4. */
  readonly workers?: number;
  /** Longest reconcile; default 2 min. */
  readonly deadlineMs?: number;
  /** All keys that exist, handled again every `resyncMs` (default 10 min, up to a tenth more by jitter). */
  readonly resyncKeys?: () => Iterable<Key>;
  readonly resyncMs?: number;
  /** How long `run` waits at its end for reconciles that are under way; default 10 s. */
  readonly stopMs?: number;
  readonly clock?: Clock;
  readonly observer?: ControllerObserver;
}

const WORKERS = 4;
const DEADLINE_MS = 120_000;
const RESYNC_MS = 600_000;
const STOP_MS = 10_000;

export class Controller {
  readonly #options: ControllerOptions;
  readonly #queue: WorkQueue<Key>;
  readonly #clock: Clock;
  #active = 0;

  constructor(options: ControllerOptions) {
    this.#options = options;
    this.#queue = options.queue;
    this.#clock = options.clock ?? SYSTEM_CLOCK;
  }

  get workers(): number {
    return this.#options.workers ?? WORKERS;
  }

  get activeWorkers(): number {
    return this.#active;
  }

  /**
   * Handles keys until the signal is aborted, then closes the queue and waits for what is under way. Resolves to false when a reconcile did not heed
   * its signal in time: it may still be writing.
   */
  async run(signal: AbortSignal): Promise<boolean> {
    const close = (): void => this.#queue.close();
    if (signal.aborted) close();
    signal.addEventListener('abort', close, { once: true });
    const workers = Array.from({ length: this.workers }, () => this.#work(signal));
    const stopped = Promise.all([...workers, this.#resync(signal)]).then(() => true);
    const aborted = new Promise<void>((resolve) => {
      if (signal.aborted) resolve();
      else signal.addEventListener('abort', () => resolve(), { once: true });
    });
    await Promise.race([stopped, aborted]);
    const waited = new AbortController();
    const clean = await Promise.race([
      stopped,
      sleep(this.#clock, this.#options.stopMs ?? STOP_MS, waited.signal).then(() => false),
    ]);
    waited.abort();
    if (!clean) this.#options.log.warn(`${this.#active} reconciles did not stop in time`);
    return clean;
  }

  async #work(signal: AbortSignal): Promise<void> {
    for (let key = await this.#queue.take(); key !== undefined; key = await this.#queue.take()) {
      this.#activate(1);
      try {
        await this.#handle(key, signal);
      } finally {
        this.#activate(-1);
        this.#queue.done(key);
      }
    }
  }

  async #handle(key: Key, stop: AbortSignal): Promise<void> {
    const { reconcile, observer, log } = this.#options;
    const deadlineMs = this.#options.deadlineMs ?? DEADLINE_MS;
    const end = new AbortController();
    const abort = (): void => end.abort(stop.reason);
    if (stop.aborted) abort();
    stop.addEventListener('abort', abort, { once: true });
    const cancel = this.#clock.after(deadlineMs, () => {
      end.abort(new Error(`reconcile of ${key} took longer than ${deadlineMs / 1000} s`));
    });
    const started = this.#clock.monotonic();
    const elapsed = (): number => (this.#clock.monotonic() - started) / 1000;
    try {
      const requeueAfterMs = (await reconcile(key, end.signal))?.requeueAfterMs;
      this.#queue.forget(key);
      if (requeueAfterMs !== undefined) this.#queue.addAfter(key, requeueAfterMs);
      observer?.reconciled?.(requeueAfterMs === undefined ? 'success' : 'requeue_after', elapsed());
    } catch (thrown) {
      const error = asError(thrown);
      if (error instanceof TerminalError) {
        this.#queue.forget(key);
        observer?.reconciled?.('terminal', elapsed());
        log.error(`${key}: not tried again until it changes`, { key, error: error.message });
        return;
      }
      if (stop.aborted) return; // the error is ours: we are stopping
      const asked = error instanceof ApiError ? error.retryAfterMs : undefined;
      const delayMs = this.#queue.addRateLimited(key, Math.min(asked ?? 0, LONGEST_ASKED_MS));
      if (isConflict(error)) {
        // Somebody else wrote first: ordinary, and the next try sees it.
        observer?.reconciled?.('conflict', elapsed());
        log.debug(`${key}: conflict`, { key, error: error.message });
        return;
      }
      observer?.reconciled?.('error', elapsed());
      const late = end.signal.aborted ? asError(end.signal.reason).message : undefined;
      const failures = this.#queue.failures(key);
      log.warn(`${key}: reconcile failed, next try in ${Math.round(delayMs)} ms`, {
        key,
        failures,
        error: error.message,
        ...(late === undefined ? {} : { late }),
        // A refusal of the server is told by its message; anything else may be a fault of ours.
        ...(error instanceof ApiError ? {} : { stack: error.stack }),
      });
    } finally {
      cancel();
      stop.removeEventListener('abort', abort);
    }
  }

  async #resync(signal: AbortSignal): Promise<void> {
    const { resyncKeys, random } = this.#options;
    if (resyncKeys === undefined) return;
    const everyMs = this.#options.resyncMs ?? RESYNC_MS;
    for (;;) {
      await sleep(this.#clock, everyMs * (1 + 0.1 * random()), signal);
      if (signal.aborted) return;
      for (const key of resyncKeys()) this.#queue.add(key);
    }
  }

  #activate(change: 1 | -1): void {
    this.#active += change;
    this.#options.observer?.activeWorkers?.(this.#active);
  }
}

/** What a server may ask us to wait, at most. */
const LONGEST_ASKED_MS = 60_000;
