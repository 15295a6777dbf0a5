import { describe, expect, it } from 'vitest';
import { seeded } from '../../test/support/seeded-values.ts';
import { native } from '../native/index.ts';
import { ImageSlots } from './image-slots.ts';

const ops = native();
const persistent = () => ops.memoryBytes().persistent;

describe('slots of encoded pictures', () => {
  it('never overlap, and take no memory while there are enough of them', () => {
    const before = persistent();
    const slots = new ImageSlots(ops, 'float32', 4, 16, 6);
    const reserved = persistent();
    expect(reserved - before).toBe(6 * 4 * 16 * 4);
    const next = seeded(3);
    const taken = new Map<number, string>();
    for (let i = 0; i < 500; i += 1) {
      const image = Math.floor((next() + 1) * 10);
      if (taken.has(image)) {
        slots.release(image);
        taken.delete(image);
      } else if (taken.size < 6) {
        const { rows, first } = slots.take(image);
        expect(first % 4).toBe(0);
        expect(slots.get(image)).toEqual({ rows, first });
        taken.set(image, `${rows} ${first}`);
      }
      expect(new Set(taken.values()).size).toBe(taken.size);
    }
    expect(persistent()).toBe(reserved);
    slots.close();
    expect(persistent()).toBe(before);
  });

  it('become more where all are taken, for good', () => {
    const slots = new ImageSlots(ops, 'bfloat16', 4, 16, 0);
    const before = persistent();
    for (const image of [7, 8]) slots.take(image);
    expect(persistent() - before).toBe(2 * 4 * 16 * 2);
    for (const image of [7, 8]) slots.release(image);
    for (const image of [1, 2]) slots.take(image);
    expect(persistent() - before).toBe(2 * 4 * 16 * 2);
    slots.close();
  });

  it('belong to one picture', () => {
    const slots = new ImageSlots(ops, 'float32', 4, 16, 2);
    slots.take(5);
    expect(() => slots.take(5)).toThrow('picture 5 is already encoded');
    expect(() => slots.get(4)).toThrow('picture 4 is not encoded');
    slots.release(4);
    slots.release(5);
    expect(() => slots.get(5)).toThrow('picture 5 is not encoded');
    slots.close();
  });
});
