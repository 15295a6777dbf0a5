// Draws the synthetic pictures that the demo model is trained on, shown with and measured by.
// One generator for all three, so that what is measured is what was taught and never the same picture.
import { createHash } from 'node:crypto';
import sharp from 'sharp';
import { askAbout, type Question } from './demo-questions.ts';

/** Training and evaluation draw from separate domains: equal seeds in different domains are unrelated pictures. */
export type Domain = 'train' | 'eval';

export const COLOURS = ['red', 'orange', 'yellow', 'green', 'blue', 'purple', 'black'] as const;
export const SHAPES = ['circle', 'square', 'triangle', 'star', 'heart'] as const;
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

/** A picture with everything that can be asked about it; objects stand in reading order. */
export interface Picture {
  svg: string;
  width: number;
  height: number;
  objects: DrawnObject[];
  questions: Question[];
}

/** A uniform number in [0, 1). */
export type Random = () => number;

/** Draws the picture of a seed: the same seed and domain always give the same picture. */
export function drawPicture(seed: number, domain: Domain = 'eval'): Picture {
  const random = seededRandom(`${domain}:${seed}`);
  const width = between(random, 240, 480);
  const height = between(random, 240, 480);
  const objects = placeObjects(random, width, height);
  const svg =
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}">` +
    background(random) +
    objects.map((object) => outline(object, between(random, -12, 12), fill(random, object.colour))).join('') +
    '</svg>';
  return { svg, width, height, objects, questions: askAbout(objects, random) };
}

/** Rasterises a drawing to an RGB PNG. */
export async function renderPicture(svg: string): Promise<Buffer> {
  return await sharp(Buffer.from(svg)).removeAlpha().png({ compressionLevel: 6 }).toBuffer();
}

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

function between(random: Random, low: number, high: number): number {
  return low + Math.floor(random() * (high - low + 1));
}

function placeObjects(random: Random, width: number, height: number): DrawnObject[] {
  const count = between(random, 1, PLACES.length);
  const chosen = new Set(shuffled(random, PLACES).slice(0, count));
  const kinds = distinctKinds(random, count);
  const side = Math.min(width, height);
  const objects: DrawnObject[] = [];
  for (const [quarter, place] of PLACES.entries()) {
    const kind = chosen.has(place) ? kinds.pop() : undefined;
    if (kind === undefined) continue;
    const radius = side * (0.13 + 0.085 * random());
    // The whole shape stays inside its quarter, so that its place is never a matter of opinion.
    const slackX = width / 2 - 2 * radius - 4;
    const slackY = height / 2 - 2 * radius - 4;
    const x = (quarter % 2) * (width / 2) + 2 + radius + slackX * random();
    const y = Math.floor(quarter / 2) * (height / 2) + 2 + radius + slackY * random();
    objects.push({ ...kind, place, x: round(x), y: round(y), radius: round(radius) });
  }
  return objects;
}

/** Colour and shape may each repeat in a picture, but no two objects share both: "the red circle" is one thing. */
function distinctKinds(random: Random, count: number): { colour: Colour; shape: Shape }[] {
  // Half of the pictures draw from few colours and shapes, so that repeats (and counts above one) are common.
  const few = random() < 0.5;
  const colours = few ? shuffled(random, COLOURS).slice(0, 2) : COLOURS;
  const shapes = few ? shuffled(random, SHAPES).slice(0, 2) : SHAPES;
  const all = colours.flatMap((colour) => shapes.map((shape) => ({ colour, shape })));
  return shuffled(random, all).slice(0, count);
}

const FILLS: Record<Colour, [hue: number, saturation: number, lightness: number]> = {
  red: [358, 76, 48],
  orange: [28, 95, 53],
  yellow: [51, 94, 52],
  green: [132, 52, 38],
  blue: [220, 74, 50],
  purple: [278, 54, 48],
  black: [220, 8, 13],
};

function fill(random: Random, colour: Colour): string {
  const [hue, saturation, lightness] = FILLS[colour];
  return `hsl(${hue + between(random, -3, 3)},${saturation + between(random, -4, 4)}%,${lightness + between(random, -3, 3)}%)`;
}

function background(random: Random): string {
  const soft = () => `hsl(${between(random, 0, 359)},${between(random, 10, 40)}%,${between(random, 88, 97)}%)`;
  const from = soft();
  if (random() < 0.5) return `<rect width="100%" height="100%" fill="${from}"/>`;
  return (
    `<defs><linearGradient id="g" x1="0" y1="0" x2="${pick(random, [0, 1])}" y2="1">` +
    `<stop offset="0" stop-color="${from}"/><stop offset="1" stop-color="${soft()}"/></linearGradient></defs>` +
    '<rect width="100%" height="100%" fill="url(#g)"/>'
  );
}

function outline({ shape, x, y, radius }: DrawnObject, angle: number, colour: string): string {
  const paint = `fill="${colour}" transform="rotate(${angle} ${x} ${y})"`;
  switch (shape) {
    case 'circle':
      return `<circle cx="${x}" cy="${y}" r="${radius}" ${paint}/>`;
    case 'square':
      return `<polygon points="${ring(x, y, [radius], 4, 45)}" ${paint}/>`;
    case 'triangle':
      return `<polygon points="${ring(x, y, [radius], 3, -90)}" ${paint}/>`;
    case 'star':
      return `<polygon points="${ring(x, y, [radius, radius * 0.42], 10, -90)}" ${paint}/>`;
    case 'heart':
      return `<path d="${heart(x, y, radius)}" ${paint}/>`;
  }
}

/** Corner points on a circle, taking the radii in turn: one radius makes a polygon, two make a star. */
function ring(x: number, y: number, radii: readonly number[], corners: number, startDegrees: number): string {
  const points: string[] = [];
  for (let corner = 0; corner < corners; corner++) {
    const angle = ((startDegrees + (corner * 360) / corners) * Math.PI) / 180;
    const radius = radii[corner % radii.length] ?? 0;
    points.push(`${round(x + radius * Math.cos(angle))},${round(y + radius * Math.sin(angle))}`);
  }
  return points.join(' ');
}

function heart(x: number, y: number, radius: number): string {
  const at = (dx: number, dy: number) => `${round(x + dx * radius)} ${round(y + dy * radius)}`;
  return (
    `M${at(0, 0.9)} C${at(-1.5, -0.05)} ${at(-0.85, -1.25)} ${at(0, -0.42)} ` +
    `C${at(0.85, -1.25)} ${at(1.5, -0.05)} ${at(0, 0.9)} Z`
  );
}

function round(value: number): number {
  return Math.round(value * 100) / 100;
}
