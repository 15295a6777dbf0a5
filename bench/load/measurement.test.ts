import { describe, expect, it } from 'vitest';
import { Measurement, type Ending } from './measurement.ts';

const OK: Ending = { code: 'OK', usage: { promptTokens: 10, imageTokens: 0, cachedTokens: 4 } };
const WINDOW = { from: 1000, to: 3000 };

/** Sends one request and lets its pieces come at these times, one token each. */
function request(m: Measurement, intended: number, sent: number, pieces: readonly number[], end = OK): void {
  const observed = m.sent(intended, sent);
  for (const at of pieces) observed.piece(at, 1);
  observed.ended(pieces.at(-1) ?? sent, end);
}

describe('Measurement', () => {
  it('measures from the time a request was meant for, not from when it was sent', () => {
    const m = new Measurement(WINDOW, undefined);
    request(m, 1000, 1400, [1500, 1520, 1560]);
    const { ttft, e2e, tpot, itl, lag } = m.result();
    const near = (value: number | undefined, expected: number) =>
      expect(Math.abs((value ?? NaN) - expected)).toBeLessThanOrEqual(expected / 1000);
    near(ttft?.max, 500);
    near(e2e?.max, 560);
    near(tpot?.max, 30);
    near(itl?.p50, 20);
    near(itl?.max, 40);
    near(lag?.max, 400);
  });

  it('leaves requests of the warm-up out of latencies, and what comes outside the window out of throughput', () => {
    const m = new Measurement(WINDOW, undefined);
    request(m, 500, 500, [900, 1100]);
    request(m, 2900, 2900, [2950, 3050]);
    const result = m.result();
    expect(result).toMatchObject({ requests: 1, answered: 1, tokensPerSecond: 1, requestsPerSecond: 0.5 });
    expect(Math.round(result.ttft?.max ?? 0)).toBe(50);
  });

  it('counts failures by code, never as answers, and not as good', () => {
    const m = new Measurement(WINDOW, { ttft: 100 });
    request(m, 1100, 1100, [1150]);
    request(m, 1200, 1200, [1400]);
    request(m, 1300, 1300, [], { code: 'RESOURCE_EXHAUSTED', usage: undefined });
    request(m, 1300, 1300, [1310], { code: 'UNFINISHED', usage: undefined });
    request(m, 1300, 1300, []);
    expect(m.result()).toMatchObject({
      requests: 5,
      answered: 2,
      errors: { EMPTY: 1, RESOURCE_EXHAUSTED: 1, UNFINISHED: 1 },
      goodput: { requestsPerSecond: 0.5, share: 0.2 },
      usage: { promptTokens: 10, imageTokens: 0, cachedTokens: 4 },
    });
  });

  it('has neither latencies nor goodput where there is nothing to tell', () => {
    expect(new Measurement(WINDOW, undefined).result()).toMatchObject({
      requests: 0,
      ttft: null,
      itl: null,
      goodput: null,
      tokensPerSecond: 0,
    });
    expect(new Measurement(WINDOW, { itl: 1 }).result().goodput).toEqual({ requestsPerSecond: 0, share: 0 });
  });
});
