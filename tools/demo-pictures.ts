// Draws the synthetic pictures that the demo model is trained on, shown with and measured by.
// One generator for all three, so that what is measured is what was taught and never the same picture.
import sharp from 'sharp';
import { askAbout, type Question } from './demo-questions.ts';
import {
  COLOURS,
  PLACES,
  SHAPES,
  pick,
  seededRandom,
  shuffled,
  type Colour,
  type DrawnObject,
  type Random,
  type Shape,
} from './demo-scene.ts';

/** Training and evaluation draw from separate domains: equal seeds in different domains are unrelated pictures. */
export type Domain = 'train' | 'eval';

/** A picture with everything that can be asked about it; objects stand in reading order. */
export interface Picture {
  svg: string;
  width: number;
  height: number;
  objects: DrawnObject[];
  questions: Question[];
}

/** Draws the picture of a seed: the same seed and domain always give the same picture. */
export function drawPicture(seed: number, domain: Domain = 'eval'): Picture {
  const random = seededRandom(`${domain}:${seed}`);
  const width = between(random, 320, 448);
  const height = between(random, 320, 448);
  const objects = placeObjects(random, width, height);
  const svg =
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}">` +
    background(random) +
    objects.map((object) => outline(object, between(random, -5, 5), fill(random, object.colour))).join('') +
    '</svg>';
  return { svg, width, height, objects, questions: askAbout(objects, random) };
}

/** Rasterises a drawing to an RGB PNG. */
export async function renderPicture(svg: string): Promise<Buffer> {
  return await sharp(Buffer.from(svg)).removeAlpha().png({ compressionLevel: 6 }).toBuffer();
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
    const radius = side * (0.15 + 0.065 * random());
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
  const soft = () =>
    `hsl(${between(random, 0, 359)},${between(random, 10, 40)}%,${between(random, 88, 97)}%)`;
  const from = soft();
  if (random() < 0.5) return `<rect width="100%" height="100%" fill="${from}"/>`;
  return (
    `<defs><linearGradient id="g" x1="0" y1="0" x2="${pick(random, [0, 1])}" y2="1">` +
    `<stop offset="0" stop-color="${from}"/><stop offset="1" stop-color="${soft()}"/></linearGradient></defs>` +
    '<rect width="100%" height="100%" fill="url(#g)"/>'
  );
}

/** The element and attributes that draw each shape, inside a circle of the radius around (x, y). */
const OUTLINES: Record<Shape, (x: number, y: number, radius: number) => string> = {
  circle: (x, y, radius) => `circle cx="${x}" cy="${y}" r="${radius}"`,
  square: (x, y, radius) => `polygon points="${ring(x, y, [radius], 4, 45)}"`,
  triangle: (x, y, radius) => `polygon points="${ring(x, y, [radius], 3, -90)}"`,
  star: (x, y, radius) => `polygon points="${ring(x, y, [radius, radius * 0.42], 10, -90)}"`,
};

function outline({ shape, x, y, radius }: DrawnObject, angle: number, colour: string): string {
  return `<${OUTLINES[shape](x, y, radius)} fill="${colour}" transform="rotate(${angle} ${x} ${y})"/>`;
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

function round(value: number): number {
  return Math.round(value * 100) / 100;
}
