import { describe, expect, it } from 'vitest';
import { rotaryTable } from './rope.ts';

describe('rotaryTable', () => {
  it('starts with the identity', () => {
    expect([...rotaryTable(1, 4, 10000)]).toEqual([1, 1, 0, 0]);
  });

  it('holds cosines, then sines, of position * theta^(-2i / headDim)', () => {
    const table = rotaryTable(6, 8, 5e6);
    for (let position = 0; position < 6; position++)
      for (let i = 0; i < 4; i++) {
        const angle = position * 5e6 ** ((-2 * i) / 8);
        expect(table[position * 8 + i]).toBeCloseTo(Math.cos(angle), 6);
        expect(table[position * 8 + 4 + i]).toBeCloseTo(Math.sin(angle), 6);
      }
  });

  it('rounds the angle to float32 before the cosine, which shows at far positions', () => {
    const unrounded = Math.fround(Math.cos(4095 * 10000 ** (-2 / 6)));
    const frequency = Math.fround(1 / Math.fround(10000 ** Math.fround(2 / 6)));
    const angle = Math.fround(4095 * frequency);
    const found = rotaryTable(4096, 6, 10000)[4095 * 6 + 1];
    expect(found).toBe(Math.fround(Math.cos(angle)));
    expect(found).not.toBe(unrounded);
  });
});
