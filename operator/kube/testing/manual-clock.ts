// A clock that stands still until a test moves it.
import type { Clock } from '../clock.ts';

interface Timer {
  readonly due: number;
  readonly action: () => void;
}

export class ManualClock implements Clock {
  readonly #timers = new Set<Timer>();
  #elapsed = 0;
  #wall: number;

  constructor(wall = Date.UTC(2026, 0, 1)) {
    this.#wall = wall;
  }

  now(): number {
    return this.#wall;
  }

  monotonic(): number {
    return this.#elapsed;
  }

  after(ms: number, action: () => void): () => void {
    const timer = { due: this.#elapsed + Math.max(0, ms), action };
    this.#timers.add(timer);
    return () => this.#timers.delete(timer);
  }

  /** Ms until each timer, ascending. */
  get timers(): number[] {
    return [...this.#timers].map(({ due }) => due - this.#elapsed).sort((a, b) => a - b);
  }

  /** Sets the wall clock, as an administrator or NTP would: durations do not notice. */
  setWall(ms: number): void {
    this.#wall = ms;
  }

  /** Lets time pass, firing timers one by one when they are due and letting what they start run. */
  async advance(ms: number): Promise<void> {
    const end = this.#elapsed + ms;
    for (let next = this.#next(end); next !== undefined; next = this.#next(end)) {
      this.#move(next.due);
      this.#timers.delete(next);
      next.action();
      await settle();
    }
    this.#move(end);
    await settle();
  }

  /** Time passes while the process is stopped: no timer fires. The next `advance(0)` fires all that are overdue. */
  jump(ms: number): void {
    this.#move(this.#elapsed + ms);
  }

  #move(to: number): void {
    if (to <= this.#elapsed) return;
    this.#wall += to - this.#elapsed;
    this.#elapsed = to;
  }

  #next(end: number): Timer | undefined {
    let next: Timer | undefined;
    for (const timer of this.#timers) {
      if (timer.due <= end && (next === undefined || timer.due < next.due)) next = timer;
    }
    return next;
  }
}

/** Lets everything run that waits for promises only. */
export async function settle(): Promise<void> {
  for (let turn = 0; turn < 10; turn += 1) await new Promise((resolve) => setImmediate(resolve));
}
