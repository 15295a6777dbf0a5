import { describe, expect, it } from 'vitest';
import { LogitRows, largest } from '../../test/support/logits.ts';
import { PLAIN_OPERATIONS } from '../engine/draw.ts';
import { native } from './index.ts';

const ops = native();

const rows = new LogitRows(7);

describe('drawToken', () => {
  it.each(rows.kinds)('equals the plain draw on rows that are %s', (kind) => {
    for (let round = 0; round < 600; round++) {
      const length = rows.pick([1, 2, 5, 24, 25, 63, 64, 300, round % 20 === 0 ? 5003 : 129]);
      const logits = rows.row(kind, length);
      const temperature = rows.pick([1e-40, 0.05, 0.7, 1, 2, 100, 1e30]);
      const topK = rows.pick([0, 0, 1, 2, 7, 50, length - 1, length, length + 5]);
      const topP = rows.pick([1e-9, 0.3, 0.9, 0.999, 1, 1]);
      const args = [logits, largest(logits), temperature, topK, topP, rows.uniform()] as const;
      const [token, expected] = [ops.drawToken(...args), PLAIN_OPERATIONS.drawToken(...args)];
      if (token !== expected)
        expect.fail(
          `${length} logits, temperature ${temperature}, top-k ${topK}, top-p ${topP}, share ${args[5]}: ${token} instead of ${expected}`,
        );
    }
  });

  it.each(rows.kinds)('equals it on a whole vocabulary that is %s', (kind) => {
    const logits = rows.row(kind, 64_000);
    for (const [temperature, topK, topP] of [
      [1, 0, 1],
      [3, 0, 0.9],
      [1, 1000, 0.8],
    ] as const) {
      const args = [logits, largest(logits), temperature, topK, topP, rows.uniform()] as const;
      expect(ops.drawToken(...args)).toBe(PLAIN_OPERATIONS.drawToken(...args));
    }
  });

  it.each(rows.kinds)('at the ends of the range gives tokens that weigh something: %s', (kind) => {
    for (let round = 0; round < 100; round++) {
      const logits = rows.row(kind, rows.pick([1, 40, 700, 3000]));
      const [most, temperature] = [largest(logits), rows.pick([0.01, 1, 1e9])];
      for (const topK of [0, 30])
        for (const topP of [1, 1 - 2 ** -53, 5e-324])
          for (const share of [0, 1 - 2 ** -53]) {
            const token = ops.drawToken(logits, most, temperature, topK, topP, share);
            expect(Math.exp((logits[token]! - most) / temperature)).toBeGreaterThan(0);
            // What is taken first is the most likely token.
            if (share === 0 && (topP < 1 || (topK > 0 && topK < logits.length)))
              expect(token).toBe(logits.indexOf(most));
          }
    }
  });

  it('stays finite at the smallest temperature', () => {
    const logits = new Float32Array(20).fill(-3e38).fill(3, 19);
    for (const topP of [1, 0.5]) expect(ops.drawToken(logits, 3, 5e-324, 0, topP, 0.99)).toBe(19);
  });

  it('refuses what makes no sense, and stands rows that break its rules', () => {
    const logits = Float32Array.of(1, 2, 3);
    const draw = (changes: Partial<Record<number, unknown>>) => () =>
      ops.drawToken(
        ...(Object.assign([logits, 3, 1, 0, 0.9, 0.5], changes) as Parameters<typeof ops.drawToken>),
      );
    expect(draw({ 0: new Float32Array(0) })).toThrow(/^drawToken: logits must have a token at least$/);
    expect(draw({ 0: new Float64Array(3) })).toThrow(/^drawToken: logits must be a Float32Array$/);
    expect(draw({ 2: 0 })).toThrow(/^drawToken: temperature must be above 0$/);
    expect(draw({ 3: -1 })).toThrow(/^drawToken: topK must be/);
    expect(draw({ 4: 0 })).toThrow(/^drawToken: topP must be above 0$/);
    expect(draw({ 5: 1 })).toThrow(/^drawToken: share must be in \[0, 1\)$/);
    for (const length of [1, 30, 2000])
      for (const bad of [NaN, Infinity, -Infinity])
        for (const [topK, topP] of [
          [0, 1],
          [0, 0.9],
          [25, 1],
        ] as const) {
          const token = ops.drawToken(new Float32Array(length).fill(bad), 0, 1, topK, topP, 0.5);
          expect(token).toBeGreaterThanOrEqual(0);
          expect(token).toBeLessThan(length);
        }
  });
});

describe('log-probabilities', () => {
  it.each(rows.kinds)('of rows that are %s are the plain ones', (kind) => {
    for (const length of [1, 2, 7, 64, 700, 5003]) {
      const logits = rows.row(kind, length);
      const most = largest(logits);
      const expected = PLAIN_OPERATIONS.logSumExp(logits, most);
      expect(Math.abs(ops.logSumExp(logits, most) - expected)).toBeLessThanOrEqual(1e-12);
      for (const count of new Set([0, 1, 3, 20, 64, length])) {
        if (count > length) continue;
        const [ids, plain] = [new Int32Array(count), new Int32Array(count)];
        ops.topTokens(logits, ids);
        PLAIN_OPERATIONS.topTokens(logits, plain);
        expect(ids).toEqual(plain);
      }
    }
  });

  it('refuse what does not fit together', () => {
    const logits = Float32Array.of(1, 2, 3);
    expect(() => ops.topTokens(logits, new Int32Array(4))).toThrow(
      /^topTokens: ids must have at most 3 elements, not 4$/,
    );
    expect(() => ops.topTokens(logits, [] as never)).toThrow(/^topTokens: ids must be an Int32Array$/);
    expect(() => ops.logSumExp([] as never, 0)).toThrow(/^logSumExp: logits must be a Float32Array$/);
    ops.topTokens(new Float32Array(0), new Int32Array(0));
  });
});
