import { describe, expect, it } from 'vitest';

import { uniform } from './seeded-random.ts';

/** Chi-square of draws over 16 equal bins; 37.7 is the 0.999 quantile for 15 degrees of freedom. */
function chiSquare(draws: readonly number[]): number {
  const counts = new Float64Array(16);
  for (const draw of draws) counts[Math.floor(draw * 16)] = (counts[Math.floor(draw * 16)] ?? 0) + 1;
  const expected = draws.length / 16;
  return counts.reduce((sum, count) => sum + (count - expected) ** 2 / expected, 0);
}

describe('uniform', () => {
  it.each([
    ['positions of one seed', (index: number) => uniform(7n, index)],
    ['neighbouring seeds', (index: number) => uniform(BigInt(index), 3)],
    ['seeds that differ in their high half', (index: number) => uniform(BigInt(index) << 32n, 3)],
  ])('is even over %s', (_, draw) => {
    const draws = Array.from({ length: 16_000 }, (__, index) => draw(index));
    expect(draws.every((value) => value >= 0 && value < 1)).toBe(true);
    expect(chiSquare(draws)).toBeLessThan(37.7);
    expect(new Set(draws).size).toBe(draws.length);
  });

  it('does not tie one position to the next', () => {
    const pairs = Array.from({ length: 16_000 }, (_, index) => {
      const [now, next] = [uniform(9n, index), uniform(9n, index + 1)];
      return (Math.floor(now * 4) * 4 + Math.floor(next * 4)) / 16;
    });
    expect(chiSquare(pairs)).toBeLessThan(37.7);
  });

  it('takes seeds of all 64 bits', () => {
    const seeds = [0n, 1n, 1n << 32n, (1n << 64n) - 1n];
    expect(new Set(seeds.map((seed) => uniform(seed, 0))).size).toBe(4);
  });
});
