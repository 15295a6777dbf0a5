import { describe, expect, it } from 'vitest';
import { isGood, parseLimits, type Limits, type Times } from './goodput.ts';

describe('parseLimits', () => {
  it.each<[string, Limits]>([
    ['ttft:500', { ttft: 500 }],
    ['ttft:500,itl:50', { ttft: 500, itl: 50 }],
    ['tpot:12.5,e2e:1e4', { tpot: 12.5, e2e: 10_000 }],
  ])('%s', (text, limits) => expect(parseLimits(text)).toEqual(limits));

  it.each([
    ['', /'' is not NAME:MILLISECONDS/],
    ['ttft', /'ttft': the limit must be/],
    ['ttft:0', /must be a number of milliseconds above 0/],
    ['ttft:fast', /must be a number/],
    ['latency:5', /'latency:5' is not NAME:MILLISECONDS; the names are ttft, itl, tpot, e2e/],
    ['ttft:1:2', /'ttft:1:2' is not/],
    ['ttft:1,ttft:2', /ttft is given twice/],
  ])('refuses %j', (text, message) => expect(() => parseLimits(text)).toThrow(message));
});

describe('isGood', () => {
  const times: Times = { ttft: 400, itl: 60, tpot: 20, e2e: 2000 };
  it.each<[string, Times, Limits, boolean]>([
    ['without limits', times, {}, true],
    ['at the limit', times, { ttft: 400 }, true],
    ['over one limit of two', times, { ttft: 500, itl: 50 }, false],
    ['under all', times, { ttft: 401, itl: 61, tpot: 21, e2e: 2001 }, true],
    ['over the last', times, { e2e: 1999 }, false],
    ['one token has no pauses', { ttft: 1, itl: undefined, tpot: undefined, e2e: 1 }, { itl: 1 }, true],
  ])('%s', (_, given, limits, good) => expect(isGood(given, limits)).toBe(good));
});
