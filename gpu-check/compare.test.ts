import { describe, expect, it } from 'vitest';
import { compare } from './compare.ts';
import { EXACT } from './operation-case.ts';

const list = (...values: number[]) => [Float32Array.from(values)];

describe('compare', () => {
  it('says how much of the tolerance the largest difference takes, and where it is', () => {
    const difference = compare(list(1, 2.5, -3), list(1, 2, -3.25), { relative: 0, absolute: 0.5 });
    expect(difference).toEqual({ worst: 1, where: 'result 0, element 1: 2.5 instead of 2' });
  });

  it('allows more where values are larger', () => {
    expect(compare(list(110), list(100), { relative: 0.2, absolute: 0 }).worst).toBeCloseTo(0.5);
  });

  it('wants exact results where nothing is allowed', () => {
    expect(compare(list(1, 0), list(1, -0), EXACT).worst).toBe(0);
    expect(compare(list(1.0000001), list(1), EXACT).worst).toBe(Infinity);
  });

  it('takes a NaN for a NaN alone', () => {
    expect(compare(list(NaN, Infinity), list(NaN, Infinity), EXACT).worst).toBe(0);
    expect(compare(list(NaN), list(1), { relative: 1, absolute: 1 }).worst).toBe(Infinity);
    expect(compare(list(1), list(Infinity), { relative: 1, absolute: 1 }).worst).toBe(Infinity);
  });

  it('does not compare what has another shape', () => {
    expect(compare([], list(1), EXACT).worst).toBe(Infinity);
    expect(compare(list(1, 2), list(1), EXACT).where).toBe('the size of result 0');
  });
});
