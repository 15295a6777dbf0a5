import { describe, expect, it } from 'vitest';
import { admissible, Breaker, type BreakerOptions } from './breaker.ts';

const OPTIONS: BreakerOptions = {
  windowMs: 1000,
  windowSize: 10,
  leastOutcomes: 4,
  failureRatio: 0.5,
  openMs: 100,
  mostOpenMs: 300,
};

function outcomes(text: string, everyMs = 1): Breaker {
  const breaker = new Breaker(OPTIONS);
  for (const [index, outcome] of text.split('').entries()) breaker.record(outcome === 'x', index * everyMs);
  return breaker;
}

describe('Breaker', () => {
  it.each([
    ['no outcomes', '', 'closed'],
    ['too few to judge', 'xxx', 'closed'],
    ['all failed', 'xxxx', 'open'],
    ['half of them failed', '.x.x', 'open'],
    ['less than half failed', '..x.x.', 'closed'],
    ['a few failures among many', '......x..x', 'closed'],
  ] as const)('with %s', (_, text, state) => {
    expect(outcomes(text).state).toBe(state);
  });

  it('forgets outcomes that are too old or too many', () => {
    const old = outcomes('xxx');
    expect(old.record(true, 2000)).toBe(false);
    expect(old.ratio(2000)).toBe(1);
    expect(outcomes(`${'.'.repeat(100)}xxxx`).state).toBe('closed');
    expect(outcomes(`${'.'.repeat(100)}xxxxx`).state).toBe('open');
  });

  it('says once that it opened', () => {
    const breaker = outcomes('xxx');
    expect([breaker.record(true, 10), breaker.record(true, 11)]).toEqual([true, false]);
  });

  it('gives out one probe when its time is over, and only one', () => {
    const breaker = outcomes('xxxx');
    expect(breaker.takeProbe(50)).toBe(false);
    expect([breaker.takeProbe(200), breaker.takeProbe(200), breaker.takeProbe(9999)]).toEqual([
      true,
      false,
      false,
    ]);
    expect(breaker.state).toBe('half-open');
    breaker.probed(true, 210);
    expect([breaker.state, breaker.ratio(210)]).toEqual(['closed', 0]);
  });

  it('stays open twice as long after each failed probe, up to a limit', () => {
    const breaker = outcomes('xxxx');
    let now = 3;
    for (const openMs of [100, 200, 300, 300]) {
      expect(breaker.takeProbe(now + openMs - 1)).toBe(false);
      now += openMs;
      expect(breaker.takeProbe(now)).toBe(true);
      breaker.probed(false, now);
    }
  });

  it('lets another probe be taken when one was lost', () => {
    const breaker = outcomes('xxxx');
    expect(breaker.takeProbe(200)).toBe(true);
    breaker.probeLost();
    expect(breaker.takeProbe(201)).toBe(true);
  });

  it('is not closed by a probe that nobody took', () => {
    const breaker = outcomes('xxxx');
    breaker.probed(true, 10);
    expect(breaker.state).toBe('open');
  });
});

describe('admissible', () => {
  const replica = (name: string, ejected: boolean, failureRatio = 0) => ({ name, ejected, failureRatio });
  it.each([
    ['those not ejected', [replica('a', true), replica('b', false)], ['b']],
    [
      'the least bad when all are ejected',
      [replica('a', true, 0.9), replica('b', true, 0.6), replica('c', true, 0.6)],
      ['b', 'c'],
    ],
    ['nobody only when there is nobody', [], []],
  ])('%s', (_, replicas, expected) => {
    expect(admissible(replicas).map(({ name }) => name)).toEqual(expected);
  });
});
