import { describe, expect, it } from 'vitest';
import { Distribution, type Percentiles } from './distribution.ts';

const range = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, i) => from + i);

describe('Distribution', () => {
  it.each<[string, number[], Percentiles]>([
    ['one value', [7], { p50: 7, p90: 7, p95: 7, p99: 7, max: 7 }],
    ['1 to 100', range(1, 100), { p50: 50, p90: 90, p95: 95, p99: 99, max: 100 }],
    ['in any order', range(1, 100).toReversed(), { p50: 50, p90: 90, p95: 95, p99: 99, max: 100 }],
    ['an outlier', [...range(1, 999).map(() => 2), 1000], { p50: 2, p90: 2, p95: 2, p99: 2, max: 1000 }],
    ['below a millisecond', [0.25, 0.25], { p50: 0.25, p90: 0.25, p95: 0.25, p99: 0.25, max: 0.25 }],
    ['nothing passed', [0], { p50: 0.001, p90: 0.001, p95: 0.001, p99: 0.001, max: 0.001 }],
  ])('%s', (_, values, expected) => {
    const distribution = new Distribution();
    for (const value of values) distribution.record(value);
    const got = distribution.percentiles();
    for (const key of ['p50', 'p90', 'p95', 'p99', 'max'] as const)
      expect(Math.abs((got?.[key] ?? NaN) - expected[key])).toBeLessThanOrEqual(expected[key] * 0.001);
  });

  it('has no percentiles without values, and keeps to its range', () => {
    const distribution = new Distribution();
    expect(distribution.percentiles()).toBeNull();
    distribution.record(1e9);
    expect(distribution.percentiles()?.max).toBeCloseTo(3_600_000, -4);
  });
});
