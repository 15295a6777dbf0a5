// Whether a group that lost a process is started again, and after how long. Pure.

/** How one process ended. */
export interface Exit {
  readonly process: string;
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

export interface RestartBudget {
  /** Failures in a row after which the group stays down. */
  readonly maxRestarts: number;
  /** A group that was ready this long has its failures forgotten. */
  readonly stableMs: number;
}

export type Restart =
  | { readonly action: 'restart'; readonly delayMs: number; readonly failures: number }
  | { readonly action: 'stop'; readonly reason: 'hopeless' | 'budget'; readonly culprit: Exit };

const FIRST_DELAY_MS = 500;
const LONGEST_DELAY_MS = 30_000;
/** Exit codes that starting again cannot help: bad flags or checkpoint, port taken. */
export const EXIT_CONFIG = 2;
export const EXIT_PORT_IN_USE = 4;

/**
 * `exits`: the processes that ended by themselves, in order. `failures`: failures in a row before this one. `readyMs`: how long the group had
 * been ready, 0 when it never was.
 */
export function decideRestart(
  exits: readonly [Exit, ...Exit[]],
  failures: number,
  readyMs: number,
  budget: RestartBudget,
): Restart {
  const hopeless = exits.find(({ code }) => code === EXIT_CONFIG || code === EXIT_PORT_IN_USE);
  if (hopeless !== undefined) return { action: 'stop', reason: 'hopeless', culprit: hopeless };
  const inARow = readyMs >= budget.stableMs ? 1 : failures + 1;
  if (inARow > budget.maxRestarts) return { action: 'stop', reason: 'budget', culprit: exits[0] };
  const delayMs = Math.min(LONGEST_DELAY_MS, FIRST_DELAY_MS * 2 ** (inARow - 1));
  return { action: 'restart', delayMs, failures: inARow };
}

/** What an exit was, in words. */
export function describeExit({ process, code, signal }: Exit): string {
  return signal === null ? `${process} exited with code ${code}` : `${process} was killed by ${signal}`;
}
