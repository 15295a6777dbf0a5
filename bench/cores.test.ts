import { describe, expect, it } from 'vitest';
import { coresOf } from './cores.ts';

describe('coresOf', () => {
  it.each([
    ['0', [0]],
    ['0-3', [0, 1, 2, 3]],
    ['0-1,4,6-7\n', [0, 1, 4, 6, 7]],
  ])('reads %j', (list, cores) => {
    expect(coresOf(list)).toEqual(cores);
  });
});
