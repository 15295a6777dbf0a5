import { expect, it } from 'vitest';
import { compareResourceVersions, hasReached } from './resource-version.ts';

it.each([
  ['1', '2', -1],
  ['9', '10', -1],
  ['100', '99', 1],
  ['5', '5', 0],
  ['05', '5', 0],
  ['18446744073709551616', '18446744073709551615', 1],
  ['x', 'x', 0],
  ['x', '1', undefined],
  ['', '1', undefined],
])('compares %j with %j', (a, b, expected) => {
  const order = compareResourceVersions(a, b);
  expect(order === undefined ? undefined : Math.sign(order)).toBe(expected);
});

it.each([
  [undefined, '1', false],
  ['9', '10', false],
  ['10', '10', true],
  ['11', '10', true],
  ['opaque', '10', true],
])('a cache at %j has reached %j: %j', (seen, wanted, expected) => {
  expect(hasReached(seen, wanted)).toBe(expected);
});
