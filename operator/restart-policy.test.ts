import { describe, expect, it } from 'vitest';
import { decideRestart, describeExit, type Exit } from './restart-policy.ts';

const BUDGET = { maxRestarts: 3, stableMs: 600_000 };
const crash: Exit = { process: 'rank-1', code: 1, signal: null };
const lostPeer: Exit = { process: 'rank-0', code: 3, signal: null };

describe('decideRestart', () => {
  it.each([
    [0, 500],
    [1, 1000],
    [2, 2000],
  ])('after %i failures waits %i ms', (failures, delayMs) => {
    expect(decideRestart([crash], failures, 0, BUDGET)).toEqual({
      action: 'restart',
      delayMs,
      failures: failures + 1,
    });
  });

  it('never waits longer than 30 s', () => {
    expect(decideRestart([crash], 50, 0, { ...BUDGET, maxRestarts: 100 })).toMatchObject({ delayMs: 30_000 });
  });

  it('stops when the budget is spent, and names the first that ended', () => {
    expect(decideRestart([crash, lostPeer], 3, 0, BUDGET)).toEqual({
      action: 'stop',
      reason: 'budget',
      culprit: crash,
    });
  });

  it('forgets failures of a group that was ready long enough', () => {
    expect(decideRestart([crash], 3, 600_000, BUDGET)).toEqual({
      action: 'restart',
      delayMs: 500,
      failures: 1,
    });
    expect(decideRestart([crash], 3, 599_999, BUDGET)).toMatchObject({ action: 'stop' });
  });

  it.each([2, 4])('stops at once on exit code %i, whichever process it came from', (code) => {
    const hopeless = { process: 'rank-1', code, signal: null };
    expect(decideRestart([lostPeer, hopeless], 0, 0, BUDGET)).toEqual({
      action: 'stop',
      reason: 'hopeless',
      culprit: hopeless,
    });
  });

  it('restarts nothing where no restart is allowed', () => {
    expect(decideRestart([crash], 0, 0, { ...BUDGET, maxRestarts: 0 })).toMatchObject({ action: 'stop' });
  });
});

describe('describeExit', () => {
  it.each([
    [crash, 'rank-1 exited with code 1'],
    [{ process: 'rank-1', code: null, signal: 'SIGKILL' } as const, 'rank-1 was killed by SIGKILL'],
  ])('%o is "%s"', (exit, text) => expect(describeExit(exit)).toBe(text));
});
