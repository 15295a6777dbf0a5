import { describe, expect, it } from 'vitest';
import { cost, DEFAULT_RATES, type ReplicaLoad } from './cost.ts';

const IDLE: ReplicaLoad = { waitingUncachedTokens: 0, unackedTokens: 0, sequences: 0, kvUsage: 0 };
const RATES = { prefillTokensPerSecond: 1000, stepSecondsPerSequence: 0.01 };

describe('cost', () => {
  it.each([
    ['an idle replica costs the prompt alone', IDLE, 500, 0.5],
    ['work that waits there comes first', { ...IDLE, waitingUncachedTokens: 1000 }, 500, 1.5],
    ['work on its way there counts as much', { ...IDLE, unackedTokens: 1000 }, 500, 1.5],
    ['each sequence slows every step', { ...IDLE, sequences: 10 }, 0, 0.1],
    ['a half full cache', { ...IDLE, kvUsage: 0.5 }, 0, 0.15],
    ['a nearly full cache', { ...IDLE, kvUsage: 0.9 }, 0, 1.35],
    ['a prompt that is held entirely', IDLE, 0, 0],
    ['never a negative prompt', IDLE, -100, 0],
  ])('%s', (_, load, tokens, seconds) => {
    expect(cost(load, RATES, tokens)).toBeCloseTo(seconds, 10);
  });

  it('stays finite when the cache is full or misreported', () => {
    for (const kvUsage of [1, 7, -3]) expect(cost({ ...IDLE, kvUsage }, DEFAULT_RATES, 1)).toBeLessThan(100);
  });

  it('a long queue in front of a warm cache loses against a cold idle replica', () => {
    const warm = cost({ ...IDLE, waitingUncachedTokens: 5000 }, RATES, 0);
    expect(cost(IDLE, RATES, 2000)).toBeLessThan(warm);
  });
});
