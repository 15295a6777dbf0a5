// Continuous traffic against a deployment, with marks: each request belongs to the step in which it started.

import type { ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';

/** Asked again and again; `tokens` makes it an answer of so many tokens, past its end. */
export interface TrafficQuestion {
  readonly text: string;
  readonly picture: string;
  /** What the answer is, or starts with where `tokens` is given. */
  readonly answer: string;
  readonly tokens?: number;
}

export type TrafficLine =
  | { readonly event: 'started'; readonly id: number; readonly at: number }
  | ({ readonly event: 'ended'; readonly id: number; readonly at: number } & TrafficOutcome);

export interface TrafficOutcome {
  readonly code: string;
  readonly message: string;
  readonly question: string;
  readonly answer: string;
  readonly tokens: number;
  readonly replica: string;
  /** Complete, and what it had to be. */
  readonly right: boolean;
}

/** One request; `outcome` is absent while it runs. */
export interface TrafficRequest {
  readonly id: number;
  readonly mark: string;
  readonly startedAt: number;
  endedAt?: number;
  outcome?: TrafficOutcome;
}

/** What a mark's requests came to. */
export interface TrafficReport {
  readonly requests: number;
  readonly failed: readonly TrafficRequest[];
  readonly longestMs: number;
  readonly replicas: ReadonlySet<string>;
}

/** A running driver: what it has asked, by mark. */
export class Traffic {
  readonly #driver: ChildProcess;
  readonly #requests = new Map<number, TrafficRequest>();
  readonly #ended: Promise<void>;
  readonly #watchers = new Set<() => void>();
  #mark = 'start';
  #over = false;
  #errors = '';

  /** `driver` is traffic-driver.ts, with stdout and stderr piped. */
  constructor(driver: ChildProcess) {
    const { stdout, stderr } = driver;
    if (stdout === null || stderr === null) throw new TypeError('the driver needs stdout and stderr piped');
    this.#driver = driver;
    createInterface({ input: stdout }).on('line', (line) => this.#take(JSON.parse(line) as TrafficLine));
    stderr.on('data', (chunk: Buffer) => (this.#errors = (this.#errors + chunk.toString()).slice(-4000)));
    this.#ended = new Promise((resolve) =>
      driver.once('close', () => {
        this.#over = true;
        this.#wake();
        resolve();
      }),
    );
  }

  /** Requests that start from now on belong to `name`. */
  mark(name: string): void {
    this.#mark = name;
  }

  /** Waits until `count` requests that start from now on have been answered rightly; throws when the driver ends or after `timeoutMs`. */
  async rightAnswers(count: number, timeoutMs = 60_000): Promise<void> {
    const from = Date.now();
    await this.#until(
      `${count} right answers`,
      timeoutMs,
      () =>
        [...this.#requests.values()].filter(
          ({ startedAt, outcome }) => startedAt >= from && outcome?.right === true,
        ).length >= count,
    );
  }

  /** Waits until every request that has started by now has ended. */
  async settled(timeoutMs = 90_000): Promise<void> {
    const running = [...this.#requests.values()].filter(({ outcome }) => outcome === undefined);
    await this.#until('the requests that run to end', timeoutMs, () =>
      running.every(({ outcome }) => outcome !== undefined),
    );
  }

  /** What has become of the requests that started under `mark` and have ended. */
  report(mark: string): TrafficReport {
    const ended = [...this.#requests.values()].filter(
      (request) => request.mark === mark && request.outcome !== undefined,
    );
    return {
      requests: ended.length,
      failed: ended.filter(({ outcome }) => outcome?.right !== true),
      longestMs: Math.max(0, ...ended.map(({ startedAt, endedAt = startedAt }) => endedAt - startedAt)),
      replicas: new Set(ended.map(({ outcome }) => outcome?.replica ?? '')),
    };
  }

  /** Lets the requests that run come to their end, and stops. */
  async stop(): Promise<void> {
    const group = this.#driver.pid;
    if (!this.#over && group !== undefined) process.kill(-group, 'SIGTERM');
    await this.#ended;
  }

  async #until(what: string, timeoutMs: number, holds: () => boolean): Promise<void> {
    const end = performance.now() + timeoutMs;
    while (!holds()) {
      if (this.#over) throw new Error(`the traffic driver ended while waiting for ${what}: ${this.#errors}`);
      const left = end - performance.now();
      if (left <= 0)
        throw new Error(`waited ${timeoutMs} ms for ${what}; ${summary(this.report(this.#mark))}`);
      await new Promise<void>((resolve) => {
        const timer = setTimeout(wake, left);
        const watchers = this.#watchers;
        watchers.add(wake);
        function wake(): void {
          clearTimeout(timer);
          watchers.delete(wake);
          resolve();
        }
      });
    }
  }

  #take(line: TrafficLine): void {
    if (line.event === 'started') {
      this.#requests.set(line.id, { id: line.id, mark: this.#mark, startedAt: line.at });
    } else {
      const request = this.#requests.get(line.id);
      if (request !== undefined) {
        request.endedAt = line.at;
        request.outcome = line;
      }
    }
    this.#wake();
  }

  #wake(): void {
    for (const wake of Array.from(this.#watchers)) wake();
  }
}

/** One line for a person: how many requests, which failed and how. */
export function summary({ requests, failed, longestMs }: TrafficReport): string {
  const failures = failed.map(
    ({ id, startedAt, endedAt = startedAt, outcome }) =>
      `#${id} after ${endedAt - startedAt} ms on ${outcome?.replica || 'no replica'}: ${outcome?.code} ${outcome?.message} ` +
      `(${outcome?.question} -> ${JSON.stringify(outcome?.answer)}, ${outcome?.tokens} tokens)`,
  );
  return [
    `${requests} requests, ${failed.length} failed, the longest took ${longestMs} ms`,
    ...failures.slice(0, 10),
  ].join('\n  ');
}
