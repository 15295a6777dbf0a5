import { describe, expect, it } from 'vitest';
import { aDeployment } from '../test/support/deployment.ts';
import type { V1ConfigMap } from '@kubernetes/client-node';
import {
  afterEnd,
  afterRelease,
  culpritOf,
  keptUntil,
  ledgerChange,
  ledgerConfigMap,
  parseLedger,
  withJitter,
} from './failures.ts';
import type { RankEnd } from './rank-pod.ts';

const NOW = Date.UTC(2026, 0, 1);
const BUDGET = { maxRestarts: 2, stableMs: 600_000 };
const end = (more: Partial<RankEnd> = {}): RankEnd => ({
  rank: 0,
  exitCode: 1,
  reason: 'Error',
  message: 'a\nb\n',
  at: NOW,
  startedAt: 0,
  whileDeleted: false,
  ...more,
});
const attempt = (uid: string, readyMs = 0) => ({ name: 'g', uids: [uid], createdAt: NOW - 60_000, readyMs });
const delay = (retryAt: string | undefined): number => Date.parse(retryAt ?? '') - NOW;

describe('the culprit', () => {
  it.each([
    ['is the first that ended', [end({ rank: 0, at: 2 }), end({ rank: 1, at: 1 })], 1],
    [
      'is never one that only lost its peer',
      [end({ rank: 0, exitCode: 3, at: 1 }), end({ rank: 1, at: 2 })],
      1,
    ],
    ['is one that lost its peer where there is no other', [end({ rank: 1, exitCode: 3, at: 1 })], 1],
  ])('%s', (_, ends, rank) => expect(culpritOf(ends)?.rank).toBe(rank));
});

describe('how long a failed group is kept', () => {
  const lost = end({ exitCode: 3 });
  it.each([
    ['not at all after an end of its own', [end()], 1, NOW, 0],
    ['for seconds while all that ended lost a peer', [lost], 1, NOW + 500, NOW + 3_000],
    ['no longer than that', [lost], 1, NOW + 3_000, 0],
    ['not at all once every rank has ended', [lost, end({ rank: 1, exitCode: 3 })], 0, NOW, 0],
    ['not at all when the peer is known', [lost, end({ rank: 1, exitCode: 137 })], 1, NOW, 0],
    ['not at all by a clock far ahead', [end({ exitCode: 3, at: NOW + 60_000 })], 1, NOW, 0],
  ])('%s', (_, ended, unended, now, until) => expect(keptUntil(ended, unended, now)).toBe(until));
});

describe('after a rank ended', () => {
  it('waits longer each time, and not at all once the budget is used up', () => {
    const first = afterEnd(attempt('a'), [end()], undefined, BUDGET, NOW);
    const second = afterEnd(attempt('b'), [end()], first, BUDGET, NOW);
    const third = afterEnd(attempt('c'), [end()], second, BUDGET, NOW);
    expect([first, second, third].map((entry) => entry?.failures)).toEqual([1, 2, 3]);
    expect(delay(first?.retryAt)).toBeGreaterThanOrEqual(500);
    expect(delay(second?.retryAt)).toBeGreaterThanOrEqual(1000);
    expect(third?.retryAt).toBeUndefined();
  });

  it('counts one attempt once', () => {
    const first = afterEnd(attempt('a'), [end()], undefined, BUDGET, NOW);
    expect(afterEnd(attempt('a'), [end()], first, BUDGET, NOW + 5)).toBe(first);
  });

  it('corrects the culprit when a better one shows, without counting again', () => {
    const first = afterEnd(attempt('a'), [end({ rank: 0, exitCode: 3 })], undefined, BUDGET, NOW);
    const better = afterEnd(
      attempt('a'),
      [end({ rank: 0, exitCode: 3 }), end({ rank: 1, exitCode: 9 })],
      first,
      BUDGET,
      NOW,
    );
    expect(better).toMatchObject({ rank: 1, exitCode: 9, failures: 1 });
    expect(
      afterEnd(
        attempt('a'),
        [end({ rank: 0, exitCode: 3 }), end({ rank: 1, exitCode: 137, whileDeleted: true })],
        first,
        BUDGET,
        NOW,
      ),
    ).toBe(first);
  });

  it('tries what is hopeless again every five minutes only', () => {
    const entry = afterEnd(attempt('a'), [end({ exitCode: 2 })], undefined, BUDGET, NOW);
    expect(entry?.hopeless).toBe(true);
    expect(delay(entry?.retryAt)).toBeGreaterThanOrEqual(300_000);
  });

  it('starts anew for a group that was ready long enough', () => {
    const second = afterEnd(
      attempt('b'),
      [end()],
      afterEnd(attempt('a'), [end()], undefined, BUDGET, NOW),
      BUDGET,
      NOW,
    );
    expect(afterEnd(attempt('c', 600_000), [end()], second, BUDGET, NOW)?.failures).toBe(1);
  });

  it('keeps the last lines, and no more of them than it should', () => {
    const message = Array.from({ length: 50 }, (_, line) => `${line} ${'x'.repeat(500)}`).join('\n');
    const entry = afterEnd(attempt('a'), [end({ message })], undefined, BUDGET, NOW);
    expect(entry?.lastLines).toHaveLength(20);
    expect(entry?.lastLines.at(-1)).toMatch(/^49 x{1,200}$/);
  });

  it.each([
    ['a log line whose beginning is missing', 'ssage":"loading"}\n{"message":"a"}\n{"message":"b"}\n', 2],
    ['but not words before log lines', 'Killed\n{"message":"a"}\nout of memory\n', 3],
    ['but not the only line', 'bad flag', 1],
  ])('leaves out %s', (_, message, left) => {
    const entry = afterEnd(attempt('a'), [end({ message })], undefined, BUDGET, NOW);
    expect(entry?.lastLines).toHaveLength(left);
  });
});

describe('after a release', () => {
  const why = { reason: 'PartlyPlaced', message: 'no', avoidNodes: ['n'], surge: false };
  it('backs off, keeps away from the node and spends none of the budget', () => {
    const crashed = afterEnd(attempt('a'), [end()], undefined, BUDGET, NOW);
    const released = afterRelease(attempt('b'), why, crashed, NOW);
    expect(released).toMatchObject({
      failures: 1,
      releases: 1,
      kind: 'ended',
      avoidNodes: ['n'],
      exitCode: 1,
    });
    const again = afterRelease(attempt('c'), { ...why, avoidNodes: [] }, released, NOW);
    expect(again).toMatchObject({ releases: 2, failures: 1 });
    expect(again.avoidNodes).toBeUndefined();
    expect(delay(again.retryAt)).toBeGreaterThan(delay(released.retryAt));
  });
});

describe('the jitter', () => {
  it('is the same for the same attempt, another for another group, and a fifth at most', () => {
    expect(withJitter(1000, 'a', 1)).toBe(withJitter(1000, 'a', 1));
    const delays = Array.from({ length: 100 }, (_, index) => withJitter(1000, `group-${index}`, 1));
    expect(new Set(delays).size).toBeGreaterThan(50);
    expect(Math.min(...delays)).toBeGreaterThanOrEqual(1000);
    expect(Math.max(...delays)).toBeLessThanOrEqual(1200);
  });
});

describe('the ledger', () => {
  const deployment = aDeployment();
  const entry = afterEnd(attempt('a'), [end()], undefined, BUDGET, NOW);
  const ledger = {
    stable: 'deadbeef',
    groups: new Map(entry === undefined ? [] : [['demo-deadbeef-0', entry]]),
  };

  it('comes back from its ConfigMap as it was, and is not written again', () => {
    const configMap = ledgerConfigMap(deployment, ledger) as unknown as V1ConfigMap;
    expect(parseLedger(configMap)).toEqual(ledger);
    expect(ledgerChange(deployment, configMap, ledger)).toBeUndefined();
    expect(ledgerChange(deployment, undefined, { stable: undefined, groups: new Map() })).toBeUndefined();
    expect(ledgerChange(deployment, undefined, ledger)).toBeDefined();
  });

  it.each(['', '{', 'null', '[]', '{"failures":"1"}'])('has no memory of an entry edited to %j', (text) => {
    expect(parseLedger({ data: { x: text } }).groups.size).toBe(0);
  });

  it('fits into a ConfigMap with a thousand groups', () => {
    const big = afterEnd(
      attempt('a'),
      [end({ message: `${'x'.repeat(300)}\n`.repeat(40) })],
      undefined,
      BUDGET,
      NOW,
    );
    const groups = new Map(
      Array.from({ length: 1000 }, (_, index) => [`demo-deadbeef-${index}`, big as NonNullable<typeof big>]),
    );
    expect(JSON.stringify(ledgerConfigMap(deployment, { stable: undefined, groups })).length).toBeLessThan(
      2 ** 20,
    );
  });
});
