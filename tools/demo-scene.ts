// What a demo picture is made of, and the seeded random choices that it is made by.
import { createHash } from 'node:crypto';

export const COLOURS = ['red', 'orange', 'yellow', 'green', 'blue', 'purple', 'black'] as const;
export const SHAPES = ['circle', 'square', 'triangle', 'star'] as const;
/** The quarters of a picture in reading order; a picture holds at most one object in each. */
export const PLACES = ['top left', 'top right', 'bottom left', 'bottom right'] as const;

export type Colour = (typeof COLOURS)[number];
export type Shape = (typeof SHAPES)[number];
export type Place = (typeof PLACES)[number];

/** One shape of a picture; centre and radius (of the circle around it) are in picture pixels. */
export interface DrawnObject {
  colour: Colour;
  shape: Shape;
  place: Place;
  x: number;
  y: number;
  radius: number;
}

/** A uniform number in [0, 1). */
export type Random = () => number;

/** A generator (sfc32) whose whole 128-bit state comes from the hash of a name. */
export function seededRandom(name: string): Random {
  const digest = createHash('sha256').update(name).digest();
  let a = digest.readUInt32LE(0);
  let b = digest.readUInt32LE(4);
  let c = digest.readUInt32LE(8);
  let counter = digest.readUInt32LE(12);
  return () => {
    const sum = (a + b + counter) | 0;
    counter = (counter + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = (((c << 21) | (c >>> 11)) + sum) | 0;
    return (sum >>> 0) / 2 ** 32;
  };
}

/** An element of a non-empty list. */
export function pick<T>(random: Random, list: readonly T[]): T {
  const item = list[Math.floor(random() * list.length)];
  if (item === undefined) throw new RangeError('cannot pick from an empty list');
  return item;
}

/** The list in a random order; the argument stays as it is. */
export function shuffled<T>(random: Random, list: readonly T[]): T[] {
  return list
    .map((item) => ({ item, key: random() }))
    .sort((left, right) => left.key - right.key)
    .map(({ item }) => item);
}
