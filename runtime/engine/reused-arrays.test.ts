import { expect, it } from 'vitest';
import { ReusedFloat32Array, ReusedInt32Array } from './reused-arrays.ts';

it('gives the same array for the same length, and the same memory for any that fits', () => {
  const reused = new ReusedInt32Array();
  const first = reused.of(20);
  expect([first.length, first.buffer.byteLength]).toEqual([20, 4 * 32]);
  expect(reused.of(20)).toBe(first);
  const shorter = reused.of(3);
  expect([shorter.length, shorter.buffer]).toEqual([3, first.buffer]);
  expect(reused.of(32).buffer).toBe(first.buffer);
  expect(reused.of(33).buffer.byteLength).toBe(4 * 64);
  expect(reused.of(0)).toHaveLength(0);
  expect(new ReusedFloat32Array().of(5)).toEqual(new Float32Array(5));
});
