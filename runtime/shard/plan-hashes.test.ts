import { describe, expect, it } from 'vitest';
import { PlanHashes } from './plan-hashes.ts';

describe('PlanHashes', () => {
  it('forgets a step once every rank agreed, in any order', () => {
    const hashes = new PlanHashes(2);
    expect(hashes.report(1, 7, 42)).toBeUndefined();
    expect(hashes.report(0, 7, 42)).toBeUndefined();
    expect(hashes.numOpen).toBe(1);
    expect(hashes.report(2, 7, 42)).toBeUndefined();
    expect(hashes.numOpen).toBe(0);
  });

  it.each([
    [[[0, 41] as const, [1, 42] as const], 1],
    [[[1, 42] as const, [0, 41] as const], 1],
    [[[1, 41] as const, [0, 41] as const, [2, 40] as const], 2],
  ])('names the rank that differs (%#)', (reports, rank) => {
    const hashes = new PlanHashes(2);
    const results = reports.map(([from, hash]) => hashes.report(from, 7, hash));
    expect(results.slice(0, -1)).toEqual(reports.slice(0, -1).map(() => undefined));
    expect(results.at(-1)?.rank).toBe(rank);
    expect(results.at(-1)?.problem).toContain('step 7');
  });

  it('is bounded', () => {
    const hashes = new PlanHashes(1);
    let problem: { rank: number; problem: string } | undefined;
    for (let step = 0; step < 1000 && !problem; step += 1) problem = hashes.report(0, step, 1);
    expect(problem?.problem).toContain('not acknowledged');
    expect(hashes.numOpen).toBeLessThan(1000);
  });
});
