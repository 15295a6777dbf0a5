import { InvalidArgumentError } from 'commander';
import { describe, expect, it } from 'vitest';
import {
  collect,
  parseCount,
  parseNumber,
  parsePort,
  parseSeed,
  parseTensorParallelSize,
  parseTokenIds,
} from './option-parsers.ts';

describe('flag values', () => {
  it.each([
    [parseNumber, '0.5', 0.5],
    [parseNumber, '-1', -1],
    [parseNumber, '1e-3', 0.001],
    [parseCount, '0', 0],
    [parseCount, '4294967295', 4294967295],
    [parseSeed, '18446744073709551615', 18446744073709551615n],
    [parsePort, '0', 0],
    [parsePort, '65535', 65535],
    [parseTensorParallelSize, '8', 8],
    [parseTokenIds, '1,2, 3\n4', [1, 2, 3, 4]],
    [parseTokenIds, ' [5, 6]\n', [5, 6]],
    [parseTokenIds, '', []],
  ])('%o reads %j', (parse, text, value) => expect(parse(text)).toEqual(value));

  it.each([
    [parseNumber, 'NaN'],
    [parseNumber, 'Infinity'],
    [parseNumber, ''],
    [parseNumber, 'warm'],
    [parseCount, '-1'],
    [parseCount, '1.5'],
    [parseCount, '4294967296'],
    [parseSeed, '18446744073709551616'],
    [parseSeed, '-1'],
    [parsePort, '65536'],
    [parseTensorParallelSize, '3'],
    [parseTokenIds, '1,x'],
    [parseTokenIds, '1,,2,-3'],
  ])('%o refuses %j', (parse, text) => expect(() => parse(text)).toThrow(InvalidArgumentError));

  it('gathers repeated flags in order', () => {
    const add = collect(parseCount);
    expect(add('2', add('1'))).toEqual([1, 2]);
  });
});
