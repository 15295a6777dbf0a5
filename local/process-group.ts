// Runs the processes of one group as one: when any of them ends, the others are ended too and all are started again, after a growing
// delay and within a budget.
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { RunningProcess } from './child-process.ts';
import { LIVENESS, watchLiveness, type LivenessOptions } from './liveness.ts';
import type { LocalGroup, LocalProcess } from './localise.ts';
import { decideRestart, describeExit, type Exit, type RestartBudget } from '../operator/restart-policy.ts';

/** A group that stays down; the message names the process, and `tail` is the last of its output. */
export class GroupFailed extends Error {
  override readonly name = 'GroupFailed';
  readonly code = 'group_failed';
  readonly group: string;
  readonly exitCode: number | null;
  readonly tail: readonly string[];
  readonly logFile: string;

  constructor(group: string, message: string, exitCode: number | null, culprit: RunningProcess | undefined) {
    super(message);
    this.group = group;
    this.exitCode = exitCode;
    this.tail = [...(culprit?.tail ?? [])];
    this.logFile = culprit?.logFile ?? '';
  }
}

export interface GroupObserver {
  /** All processes of the group were started (anew). */
  started(group: LocalGroup, pids: ReadonlyMap<string, number>): void;
  /** One line of a process's output. */
  line(process: LocalProcess, line: string): void;
  /** The group went down and starts again after the delay. */
  restarting(group: LocalGroup, why: string, delayMs: number): void;
}

export interface ProcessGroupOptions {
  readonly logDirectory: string;
  readonly budget: RestartBudget;
  readonly liveness?: LivenessOptions;
  readonly observer: GroupObserver;
}

export class ProcessGroup {
  readonly group: LocalGroup;
  /** Resolves when the group was stopped; rejects with GroupFailed when it stays down. */
  readonly ended: Promise<void>;
  readonly #options: ProcessGroupOptions;
  readonly #stopping = new AbortController();
  #running: readonly RunningProcess[] = [];
  #readySince: number | undefined;

  constructor(group: LocalGroup, options: ProcessGroupOptions) {
    this.group = group;
    this.#options = options;
    this.ended = this.#supervise();
  }

  /** Process ids of what runs now. */
  get pids(): ReadonlyMap<string, number> {
    return new Map(this.#running.flatMap(({ spec, pid }) => (pid === undefined ? [] : [[spec.name, pid]])));
  }

  /** The group does its work; from now on counts towards forgetting earlier failures. */
  markReady(): void {
    this.#readySince ??= performance.now();
  }

  /** Asks all processes to finish, and kills those that have not after `graceMs`. */
  async stop(graceMs: number): Promise<void> {
    this.#stopping.abort();
    this.#signal('SIGTERM');
    const timer = setTimeout(() => this.#signal('SIGKILL'), graceMs);
    await Promise.all(this.#running.map(({ exited }) => exited));
    clearTimeout(timer);
    await this.ended.catch(() => {}); // whoever waits on `ended` sees its failure
  }

  /** Kills all processes now; synchronous, for a process that is about to exit. */
  kill(): void {
    this.#stopping.abort();
    this.#signal('SIGKILL');
  }

  async #supervise(): Promise<void> {
    for (let failures = 0; !this.#stopping.signal.aborted;) {
      const { exits, readyMs } = await this.#runOnce();
      const [first, ...rest] = exits;
      if (this.#stopping.signal.aborted || first === undefined) return;
      const decision = decideRestart([first, ...rest], failures, readyMs, this.#options.budget);
      if (decision.action === 'stop') throw this.#failure(decision.culprit, decision.reason, failures);
      failures = decision.failures;
      this.#options.observer.restarting(this.group, describeExit(first), decision.delayMs);
      await sleep(decision.delayMs, undefined, { signal: this.#stopping.signal }).catch(() => {}); // stopped while it waits
    }
  }

  /** Starts all processes and resolves when all have ended, with those that ended by themselves, in order. */
  async #runOnce(): Promise<{ exits: Exit[]; readyMs: number }> {
    const exits: Exit[] = [];
    let killed = false;
    this.#readySince = undefined;
    const { logDirectory, observer, liveness = LIVENESS } = this.#options;
    this.#running = this.group.processes.map(
      (spec) =>
        new RunningProcess(spec, join(logDirectory, `${spec.name}.log`), (line) => observer.line(spec, line)),
    );
    observer.started(this.group, this.pids);
    let readyMs = 0;
    await Promise.all(
      this.#running.map(async (running) => {
        const { metrics } = running.spec;
        const unwatch =
          metrics === '' ? undefined : watchLiveness(metrics, liveness, () => running.signal('SIGKILL'));
        const exit = await running.exited;
        unwatch?.();
        // What was killed for another's sake tells nothing, but an exit of its own that crossed the signal does.
        if (killed && exit.signal === 'SIGKILL') return;
        exits.push(exit);
        if (killed || this.#stopping.signal.aborted) return;
        killed = true;
        readyMs = this.#readySince === undefined ? 0 : performance.now() - this.#readySince;
        this.#signal('SIGKILL');
      }),
    );
    return { exits, readyMs };
  }

  #signal(signal: NodeJS.Signals): void {
    for (const running of this.#running) running.signal(signal);
  }

  #failure(culprit: Exit, reason: 'hopeless' | 'budget', failures: number): GroupFailed {
    const restarts = failures === 1 ? '1 restart' : `${failures} restarts in a row`;
    const spent = reason === 'budget' && failures > 0 ? `, after ${restarts}` : '';
    const what = describeExit(culprit) + spent;
    const running = this.#running.find(({ spec }) => spec.name === culprit.process);
    return new GroupFailed(this.group.name, what, culprit.code, running);
  }
}
