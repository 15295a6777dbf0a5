import { describe, expect, it } from 'vitest';
import { fillRates, RateEstimator } from './rates.ts';

const DEFAULTS = { prefillTokensPerSecond: 2000, stepSecondsPerSequence: 0.0005 };

function prefilled(rate: number, samples = 10): RateEstimator {
  const estimator = new RateEstimator();
  for (let index = 0; index < samples; index++) estimator.prefill(100, 100 / rate);
  return estimator;
}

describe('RateEstimator', () => {
  it('knows nothing until it has seen enough', () => {
    expect(new RateEstimator().prefillTokensPerSecond).toBeUndefined();
    expect(prefilled(50, 2).prefillTokensPerSecond).toBeUndefined();
    expect(prefilled(50, 3).prefillTokensPerSecond).toBeCloseTo(50);
  });

  it('follows a change', () => {
    const estimator = prefilled(100);
    for (let index = 0; index < 100; index++) estimator.prefill(100, 1 / 4);
    expect(estimator.prefillTokensPerSecond).toBeCloseTo(400, 0);
  });

  it('is not led astray by prompts that were nearly all cached', () => {
    const estimator = new RateEstimator();
    for (let index = 0; index < 200; index++) {
      estimator.prefill(1000, 0.52); // 2000 a second behind a step of 20 ms
      for (let hits = 0; hits < 3; hits++) estimator.prefill(4, 0.022);
    }
    const rate = estimator.prefillTokensPerSecond!;
    expect(rate).toBeGreaterThan(1500);
    expect(rate).toBeLessThan(2000);
  });

  it('reads the slope off steps of different sizes', () => {
    const estimator = new RateEstimator();
    for (let index = 0; index < 200; index++) {
      const running = 1 + (index % 16);
      estimator.step(running, 0.02 + 0.003 * running);
    }
    expect(estimator.stepSecondsPerSequence).toBeCloseTo(0.003, 6);
  });

  it('says nothing about the slope when all steps were alike, and never that it is negative', () => {
    const alike = new RateEstimator();
    const falling = new RateEstimator();
    for (let index = 0; index < 50; index++) {
      alike.step(8, 0.02);
      falling.step(1 + (index % 8), 0.1 - 0.001 * (index % 8));
    }
    expect(alike.stepSecondsPerSequence).toBeUndefined();
    expect(falling.stepSecondsPerSequence).toBe(0);
  });

  it.each([
    [0, 1],
    [10, 0],
    [-5, 1],
    [NaN, 1],
    [10, NaN],
  ])('ignores a sample of %d tokens in %d s', (tokens, seconds) => {
    const estimator = prefilled(50);
    estimator.prefill(tokens, seconds);
    estimator.step(tokens, seconds);
    expect(estimator.prefillTokensPerSecond).toBeCloseTo(50);
  });
});

describe('fillRates', () => {
  it('uses the defaults when nothing is measured', () => {
    expect(fillRates([new RateEstimator()], DEFAULTS)).toEqual([DEFAULTS]);
    expect(fillRates([], DEFAULTS)).toEqual([]);
  });

  it("gives an unmeasured replica its siblings' mean, so that it does not look fastest", () => {
    const rates = fillRates([prefilled(40), new RateEstimator(), prefilled(60)], DEFAULTS);
    expect(rates.map(({ prefillTokensPerSecond }) => Math.round(prefillTokensPerSecond))).toEqual([
      40, 50, 60,
    ]);
  });
});
