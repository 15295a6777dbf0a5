import { describe, expect, it } from 'vitest';
import { randomValues } from '../../test/support/native-tensors.ts';
import { native } from './index.ts';

const ops = native();

describe('weights', () => {
  it.each([
    [1, 1],
    [7, 0.3],
    [64, 1],
    [5003, 2.5],
  ])('of %i logits at temperature %d are those of the plain expression', (count, temperature) => {
    const logits = Float32Array.from(randomValues(count, 1, 'float32', 40));
    if (count > 3) logits.set([-Infinity, -3e38, 40], 1);
    const weights = new Float64Array(count);
    const sum = ops.weights(logits, 40, temperature, weights);
    for (const [i, logit] of logits.entries()) {
      const expected = Math.exp((logit - 40) / temperature);
      expect(Math.abs(weights[i]! - expected), `logit ${logit}`).toBeLessThanOrEqual(1e-15 * expected);
    }
    const expected = weights.reduce((total, weight) => total + weight, 0);
    expect(Math.abs(sum - expected)).toBeLessThanOrEqual(1e-13 * expected);
  });

  it('stay finite at the smallest temperature', () => {
    const weights = new Float64Array(20);
    const logits = new Float32Array(20).fill(-1).fill(3, 19);
    expect(ops.weights(logits, 3, 5e-324, weights)).toBe(1);
    expect([...weights]).toEqual(Array.from({ length: 20 }, (_, i) => (i === 19 ? 1 : 0)));
  });

  it('refuses what does not fit together', () => {
    const logits = new Float32Array(3);
    expect(ops.weights(new Float32Array(0), 0, 1, new Float64Array(0))).toBe(0);
    expect(() => ops.weights(logits, 0, 0, new Float64Array(3))).toThrow(
      /^weights: temperature must be above 0$/,
    );
    expect(() => ops.weights(logits, 0, 1, new Float64Array(2))).toThrow(
      /^weights: weights must have 3 elements/,
    );
    expect(() => ops.weights(logits, 0, 1, logits as never)).toThrow(
      /^weights: weights must be a Float64Array$/,
    );
  });
});
