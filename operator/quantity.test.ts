import { describe, expect, it } from 'vitest';
import { bytesOf, millisecondsOf } from './quantity.ts';

describe('bytesOf', () => {
  it.each([
    [5, 5],
    ['0', 0],
    ['1Ki', 1024],
    ['1.5Gi', 1.5 * 2 ** 30],
    ['2k', 2000],
    ['3M', 3_000_000],
    ['20Mi', 20 * 2 ** 20],
  ])('%s is %i bytes', (quantity, bytes) => expect(bytesOf(quantity)).toBe(bytes));

  it.each(['', 'Gi', '1Xi', '-1', '1e3', '99999999Ti', Number.NaN])('refuses %s', (quantity) => {
    expect(() => bytesOf(quantity)).toThrow(RangeError);
  });
});

describe('millisecondsOf', () => {
  it.each([
    ['500ms', 500],
    ['60s', 60_000],
    ['1m30s', 90_000],
    ['2h', 7_200_000],
  ])('%s is %i ms', (duration, ms) => expect(millisecondsOf(duration)).toBe(ms));

  it.each(['', '5', 's', '1.5s', '-1s', '1d'])('refuses %s', (duration) => {
    expect(() => millisecondsOf(duration)).toThrow(RangeError);
  });
});
