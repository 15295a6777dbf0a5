import { describe, expect, it } from 'vitest';
import { poissonArrivals } from './arrivals.ts';

const gaps = (times: readonly number[]) => times.map((time, index) => time - (times[index - 1] ?? 0));

describe('poissonArrivals', () => {
  it.each([
    [5, 1000],
    [200, 100],
  ])('at %d a second for %d s come as many as that within five deviations', (rate, seconds) => {
    const times = [...poissonArrivals(rate, seconds * 1000, 1n)];
    const expected = rate * seconds;
    expect(Math.abs(times.length - expected)).toBeLessThan(5 * Math.sqrt(expected));
    expect(times.every((time) => time >= 0 && time < seconds * 1000)).toBe(true);
  });

  it('has gaps as spread as an exponential distribution: the deviation is the mean', () => {
    const all = gaps([...poissonArrivals(100, 200_000, 7n)]);
    const mean = all.reduce((sum, gap) => sum + gap, 0) / all.length;
    const deviation = Math.sqrt(all.reduce((sum, gap) => sum + (gap - mean) ** 2, 0) / all.length);
    expect(Math.min(...all)).toBeGreaterThanOrEqual(0);
    expect(deviation / mean).toBeCloseTo(1, 1);
  });

  it('is the same for the same seed and another for another', () => {
    const times = (seed: bigint) => [...poissonArrivals(50, 1000, seed)];
    expect(times(3n)).toEqual(times(3n));
    expect(times(3n)).not.toEqual(times(4n));
  });
});
