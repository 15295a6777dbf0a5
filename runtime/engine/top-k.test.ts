import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { inRankOrder, ranksBefore, topIndices } from './top-k.ts';

// Few distinct values, so that there are ties.
const rows = fc
  .array(fc.constantFrom(-Infinity, -2, -0.5, 0, 0.5, 3), { minLength: 1, maxLength: 40 })
  .map((values) => Float32Array.from(values));

function sorted(values: Float32Array): number[] {
  return Array.from(values.keys()).sort((a, b) => (ranksBefore(values, a, b) ? -1 : 1));
}

describe('selection', () => {
  it('gives the first k of the full order, equals by index', () => {
    fc.assert(
      fc.property(rows, fc.nat(45), (values, k) => {
        expect(topIndices(values, k)).toEqual(sorted(values).slice(0, k));
      }),
      { seed: 1 },
    );
  });

  it('walks any subset in the full order', () => {
    fc.assert(
      fc.property(rows, fc.nat(6), (values, skip) => {
        const subset = Array.from(values.keys()).filter((index) => index % 7 !== skip);
        expect([...inRankOrder(values, subset)]).toEqual(
          sorted(values).filter((index) => subset.includes(index)),
        );
      }),
      { seed: 2 },
    );
  });
});
