import { describe, expect, it } from 'vitest';

import { mix } from './seeded-random.ts';
import { StepCost } from './step-cost.ts';

/** 20 ms, 0.1 ms a decode, 0.06 ms a prefill token. */
function linearUs(decodes: number, prefillTokens: number): number {
  return 20_000 + 100 * decodes + 60 * prefillTokens;
}

/** A cost that has seen `steps` steps of each kind, of 1 to 32 decodes and 100 to 600 prefill tokens. */
function taught(steps: number, us = linearUs): StepCost {
  const cost = new StepCost();
  for (let step = 0; step < steps; step += 1) {
    const decodes = 1 + (mix(1, step) % 32);
    const prefillTokens = 100 + (mix(2, step) % 500);
    cost.observe({ decodes, prefillTokens: 0 }, us(decodes, 0));
    cost.observe({ decodes, prefillTokens }, us(decodes, prefillTokens));
  }
  return cost;
}

describe('step cost', () => {
  it('is 0 before the first step, and finite numbers after any', () => {
    const cost = new StepCost();
    expect([cost.decodeUs(5), cost.perPrefillTokenUs, cost.knownPrefillTokens]).toEqual([0, 0, 0]);
    for (const us of [0, -5, NaN, Infinity]) cost.observe({ decodes: 0, prefillTokens: 0 }, us);
    expect([cost.decodeUs(5), cost.perPrefillTokenUs]).toEqual([0, 0]);
    cost.observe({ decodes: 0, prefillTokens: 0 }, 7);
    expect([cost.decodeUs(5), cost.perPrefillTokenUs]).toEqual([7, 0]);
  });

  it('finds what decodes and prefill tokens take', () => {
    const cost = taught(100);
    expect(cost.decodeUs(4)).toBeCloseTo(linearUs(4, 0), -3);
    expect(cost.decodeUs(30)).toBeCloseTo(linearUs(30, 0), -3);
    expect(cost.perPrefillTokenUs).toBeGreaterThan(57);
    expect(cost.perPrefillTokenUs).toBeLessThan(63);
  });

  it('takes the time of the decodes for that of the base while their number stays', () => {
    const cost = new StepCost();
    for (let step = 0; step < 50; step += 1) cost.observe({ decodes: 12, prefillTokens: 0 }, 21_200);
    expect(cost.decodeUs(12)).toBeCloseTo(21_200);
    expect(cost.decodeUs(13)).toBeCloseTo(21_200);
  });

  it('never says that more decodes take less, or that tokens have to be paid back', () => {
    const cost = taught(50, (decodes, prefillTokens) => 90_000 - 1000 * decodes - 20 * prefillTokens);
    expect(cost.decodeUs(30)).toBeGreaterThanOrEqual(cost.decodeUs(1));
    expect(cost.perPrefillTokenUs).toBe(0);
    const steep = new StepCost();
    for (const decodes of [30, 31, 32, 33, 34]) {
      steep.observe({ decodes, prefillTokens: 0 }, 9000 * (decodes - 29));
    }
    expect(steep.decodeUs(0)).toBeGreaterThanOrEqual(0);
  });

  it('remembers what a prefill token takes through any number of decodes', () => {
    const cost = taught(20);
    const before = cost.perPrefillTokenUs;
    for (let step = 0; step < 10_000; step += 1) cost.observe({ decodes: 3, prefillTokens: 0 }, 20_300);
    expect(cost.perPrefillTokenUs).toBe(before);
  });

  it.each([
    ['decodes', 0],
    ['prefill', 400],
  ])('is hardly moved by one pause of the machine in a step of %s', (_, prefillTokens) => {
    const cost = taught(50);
    cost.observe({ decodes: 8, prefillTokens }, 30_000_000);
    const expected = linearUs(8, prefillTokens);
    const predicted = cost.decodeUs(8) + prefillTokens * cost.perPrefillTokenUs;
    expect(predicted).toBeGreaterThan(0.95 * expected);
    expect(predicted).toBeLessThan(1.15 * expected);
  });

  it('follows a machine that has become four times slower', () => {
    const cost = taught(50);
    for (let step = 0; step < 60; step += 1) {
      cost.observe({ decodes: 8, prefillTokens: 0 }, 4 * linearUs(8, 0));
      cost.observe({ decodes: 8, prefillTokens: 400 }, 4 * linearUs(8, 400));
    }
    expect(cost.decodeUs(8) / (4 * linearUs(8, 0))).toBeCloseTo(1, 1);
    expect(cost.perPrefillTokenUs / 240).toBeCloseTo(1, 1);
  });
});
