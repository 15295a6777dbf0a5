import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { PLAIN_OPERATIONS, keepTopK, keepTopP } from './draw.ts';

describe('cuts', () => {
  const logits = fc
    .array(fc.float({ min: -8, max: 8, noNaN: true }), { minLength: 1, maxLength: 30 })
    .map((values) => Float32Array.from(values));
  const share = fc.double({ min: 0.01, max: 0.999, noNaN: true });

  it('with top-p leave the smallest set of the most likely that reaches it', () => {
    fc.assert(
      fc.property(logits, share, (row, topP) => {
        const weights = Float64Array.from(row, Math.exp);
        const weightOf = (id: number): number => weights[id] ?? 0;
        const total = weights.reduce((sum, weight) => sum + weight, 0);
        const kept = keepTopP(row, weightOf, Array.from(row.keys()), topP * total);
        const mass = (ids: readonly number[]): number =>
          ids.reduce((sum, id) => sum + weightOf(id), 0) / total;
        expect(mass(kept)).toBeGreaterThanOrEqual(topP - 1e-9);
        expect(mass(kept.slice(0, -1))).toBeLessThan(topP + 1e-9);
        const least = Math.min(...kept.map(weightOf));
        const left = Array.from(row.keys()).filter((id) => !kept.includes(id));
        for (const id of left) expect(weightOf(id)).toBeLessThanOrEqual(least);
      }),
      { seed: 3 },
    );
  });

  it('with top-k leave all that are as likely as the k-th', () => {
    const row = Float32Array.of(2, 1, 3, 1, 1, 0);
    expect(keepTopK(row, 3)).toEqual([2, 0, 1, 3, 4]);
    expect(keepTopK(row, 2)).toEqual([2, 0]);
  });
});

describe('the plain draw', () => {
  // Weights 1, 3, 2 in sixths.
  const logits = Float32Array.of(0, Math.log(3), Math.log(2));
  const most = Math.log(3);

  it.each([
    ['by id without a cut', 0, 1, [0, 1, 1, 1, 2, 2]],
    ['the most likely first with top-p', 0, 0.99, [1, 1, 1, 2, 2, 0]],
    ['the most likely first with top-k', 2, 1, [1, 1, 1, 1, 2, 2]],
    ['of what both leave', 2, 0.5, [1, 1, 1, 1, 1, 1]],
  ])('takes tokens %s', (_, topK, topP, tokens) => {
    const shares = tokens.map((_, index) => (index + 0.5) / 6);
    const draw = (share: number) => PLAIN_OPERATIONS.drawToken(logits, most, 1, topK, topP, share);
    expect(shares.map(draw)).toEqual(tokens);
  });
});
