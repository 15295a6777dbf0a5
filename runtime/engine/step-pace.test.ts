import { describe, expect, it } from 'vitest';

import { quantile } from '../../test/support/simulated-run.ts';
import { mix } from './seeded-random.ts';
import { StepPace } from './step-pace.ts';

const TARGET_US = 100_000;

/** A warm pace that has seen decodes of decodeUs and prefills of 60 us a token beside them. */
function paceOf(decodeUs: number, targetUs = TARGET_US): StepPace {
  const pace = new StepPace(targetUs);
  pace.observe({ decodes: 0, prefillTokens: 1, images: 0, us: 9_000_000 });
  for (let step = 0; step < 20; step += 1) {
    pace.observe({ decodes: 4, prefillTokens: 0, images: 0, us: decodeUs });
    pace.observe({ decodes: 4, prefillTokens: 2000, images: 0, us: decodeUs + 120_000 });
  }
  return pace;
}

describe('prefill tokens of a step', () => {
  it('fill the time between what the decodes take and the target', () => {
    expect(paceOf(20_000).prefillTokens(4)).toBe(1328); // (100 ms - 20 ms) / 60 us, in sixteens
  });

  it('are twice what the decodes take where these alone exceed the target', () => {
    expect(paceOf(60_000).prefillTokens(4)).toBe(2000); // (180 ms - 60 ms) / 60 us
    expect(paceOf(90_000).prefillTokens(4)).toBe(2992);
  });

  it('are not limited when nobody waits, without a target, or before anything is known', () => {
    expect(paceOf(20_000).prefillTokens(0)).toBe(Infinity);
    expect(paceOf(20_000, 0).prefillTokens(4)).toBe(Infinity);
    expect(new StepPace(TARGET_US).prefillTokens(4)).toBe(Infinity);
  });

  it('are never none', () => {
    const pace = paceOf(20_000);
    for (let step = 0; step < 300; step += 1) {
      pace.observe({ decodes: 4, prefillTokens: 20, images: 0, us: 60_000_000 });
    }
    expect(pace.prefillTokens(4)).toBe(16);
  });

  it('grow at most four times over what recent steps had', () => {
    const pace = new StepPace(TARGET_US);
    pace.observe({ decodes: 0, prefillTokens: 1, images: 0, us: 9_000_000 });
    // As on a processor that waits for memory: few tokens are free.
    for (let step = 0; step < 20; step += 1) {
      pace.observe({ decodes: 4, prefillTokens: 0, images: 0, us: 40_000 });
      pace.observe({ decodes: 4, prefillTokens: 30, images: 0, us: 40_000 });
    }
    expect(pace.prefillTokens(4)).toBe(112); // in sixteens
  });

  it('do not change with steps that warm up or encode pictures', () => {
    const pace = paceOf(20_000);
    const before = pace.prefillTokens(4);
    pace.observe({ decodes: 4, prefillTokens: 300, images: 1, us: 400_000 });
    expect(pace.prefillTokens(4)).toBe(before);
    const cold = new StepPace(TARGET_US);
    cold.observe({ decodes: 0, prefillTokens: 500, images: 0, us: 9_000_000 });
    expect(cold.prefillTokens(4)).toBe(Infinity);
  });
});

describe('pace of a machine', () => {
  // Microseconds of a step by decodes and prefill tokens.
  const machines: Record<string, (decodes: number, prefillTokens: number) => number> = {
    'that computes what it is given': (n, m) => 18_000 + 100 * n + 60 * m,
    'that waits for memory until it has much to compute': (n, m) => Math.max(40_000, 900 * (n + m)),
    'whose decodes take longer than the target': (n, m) => Math.max(800_000, 20_000 * (n + m)),
  };
  const lengths: Record<string, (index: number) => number> = {
    long: (index) => 2000 + (mix(1, index) % 6000),
    'mostly short': (index) => (mix(3, index) % 20 === 0 ? 5000 : 10 + (mix(2, index) % 60)),
  };
  const cases = Object.keys(machines).flatMap((machine) =>
    Object.keys(lengths).flatMap((length) =>
      [0.01, 0.1, 0.5].map((rate) => [machine, length, rate] as const),
    ),
  );

  it.each(cases)('%s keeps near the target with %s prompts, %f a step', (machine, length, rate) => {
    const us = machines[machine]!;
    const pace = new StepPace(TARGET_US);
    const shares: number[] = [];
    let backlog = 0;
    let decodes = 8;
    let draws = 0;
    const draw = (): number => mix(5, (draws += 1)) / 2 ** 32;
    for (let step = 0; step < 8000; step += 1) {
      if (step % 50 === 0) decodes = 1 + Math.floor(32 * draw());
      if (draw() < rate) backlog += lengths[length]!(draws);
      const prefillTokens = Math.min(backlog, 4096, pace.prefillTokens(decodes));
      backlog -= prefillTokens;
      // Noise of 5 %, and a pause of the machine every thousand steps.
      const taken = us(decodes, prefillTokens) * (0.95 + 0.1 * draw()) * (draw() < 0.001 ? 10 : 1);
      pace.observe({ decodes, prefillTokens, images: 0, us: taken });
      const target = Math.max(TARGET_US, 3 * us(decodes, 0));
      if (prefillTokens > 0) shares.push(taken / target);
    }
    expect(quantile(shares, 0.97)).toBeLessThan(1.3);
    // Not by holding prefill back: while there is a backlog, the time is used.
    if (backlog > 4096) expect(quantile(shares, 0.5)).toBeGreaterThan(0.8);
  });
});
