import sharp from 'sharp';
import { describe, expect, it } from 'vitest';
import { drawPicture, renderPicture, type Picture } from './demo-pictures.ts';
import { askAbout, chooseQuestion, QUESTION_KINDS } from './demo-questions.ts';
import { PLACES } from './demo-scene.ts';

const seeds = Array.from({ length: 200 }, (_, seed) => seed);
const pictures = seeds.map((seed) => drawPicture(seed));

const red = { colour: 'red', shape: 'circle', place: 'top left', x: 50, y: 50, radius: 30 } as const;
const blue = { colour: 'blue', shape: 'circle', place: 'top right', x: 150, y: 50, radius: 30 } as const;
const star = { colour: 'orange', shape: 'star', place: 'bottom left', x: 50, y: 150, radius: 30 } as const;

function answers(objects: Parameters<typeof askAbout>[0]): Map<string, string> {
  // Wordings are chosen at random: always the first one here.
  return new Map(askAbout(objects, () => 0).map(({ question, answer }) => [question, answer]));
}

describe('drawPicture', () => {
  it('gives the same picture for the same seed and domain', () => {
    expect(drawPicture(7)).toEqual(drawPicture(7));
    expect(drawPicture(7, 'train')).toEqual(drawPicture(7, 'train'));
  });

  it('shares no picture between seeds and domains', () => {
    const all = seeds.flatMap((seed) => [drawPicture(seed).svg, drawPicture(seed, 'train').svg]);
    expect(new Set(all).size).toBe(all.length);
  });

  it('keeps each object whole inside its quarter', () => {
    for (const { width, height, objects } of pictures) {
      for (const { place, x, y, radius } of objects) {
        const left = place.endsWith('left') ? 0 : width / 2;
        const top = place.startsWith('top') ? 0 : height / 2;
        expect(x - radius).toBeGreaterThanOrEqual(left);
        expect(x + radius).toBeLessThanOrEqual(left + width / 2);
        expect(y - radius).toBeGreaterThanOrEqual(top);
        expect(y + radius).toBeLessThanOrEqual(top + height / 2);
      }
    }
  });

  it('draws one to four objects in reading order, no two alike', () => {
    const counts = new Set<number>();
    for (const { objects } of pictures) {
      counts.add(objects.length);
      const places = objects.map(({ place }) => PLACES.indexOf(place));
      expect(places).toEqual([...new Set(places)].toSorted((left, right) => left - right));
      expect(new Set(objects.map(({ colour, shape }) => `${colour} ${shape}`)).size).toBe(objects.length);
    }
    expect(counts).toEqual(new Set([1, 2, 3, 4]));
  });
});

describe('askAbout', () => {
  const isSingle = (picture: Picture, question: string) =>
    picture.questions.filter((other) => other.question === question).length === 1;

  it('asks every kind of question of every picture, none twice', () => {
    for (const picture of pictures) {
      expect(new Set(picture.questions.map(({ kind }) => kind))).toEqual(new Set(QUESTION_KINDS));
      for (const { question } of picture.questions) expect(isSingle(picture, question)).toBe(true);
    }
  });

  it.each([
    ['What colour is the star?', 'Orange.'],
    ['What shape is red?', 'The circle.'],
    ['How many shapes are there?', 'Three.'],
    ['How many circles are there?', 'Two.'],
    ['How many squares are there?', 'None.'],
    ['How many orange shapes are there?', 'One.'],
    ['What is in the top right?', 'A blue circle.'],
    ['What is in the bottom left?', 'An orange star.'],
    ['What is in the bottom right?', 'Nothing.'],
    ['Where is the blue circle?', 'Top right.'],
    ['Where is the star?', 'Bottom left.'],
    ['Is there a red circle?', 'Yes.'],
    ['Describe the picture.', 'A red circle, a blue circle and an orange star.'],
  ])('answers %s with %s', (question, answer) => {
    expect(answers([red, blue, star]).get(question)).toBe(answer);
  });

  it('does not ask for the one circle of two', () => {
    const asked = [...answers([red, blue, star]).keys()];
    expect(asked).not.toContain('What colour is the circle?');
    expect(asked).not.toContain('Where is the circle?');
  });

  it.each([
    [[star], 'An orange star.'],
    [[red, star], 'A red circle and an orange star.'],
  ])('lists %# objects', (objects, caption) => {
    expect(answers(objects).get('Describe the picture.')).toBe(caption);
  });
});

describe('chooseQuestion', () => {
  it('chooses by seed, and every kind about as often', () => {
    const kinds = pictures.map((picture, seed) => chooseQuestion(picture.questions, seed).kind);
    expect(kinds).toEqual(pictures.map((picture, seed) => chooseQuestion(picture.questions, seed).kind));
    for (const kind of QUESTION_KINDS) {
      expect(kinds.filter((other) => other === kind).length).toBeGreaterThan(200 / QUESTION_KINDS.length / 2);
    }
  });
});

describe('renderPicture', () => {
  it('gives an RGB PNG of the drawing, the object in its colour where it should be', async () => {
    const picture = drawPicture(3);
    const png = await renderPicture(picture.svg);
    const { data, info } = await sharp(png).raw().toBuffer({ resolveWithObject: true });
    expect(info).toMatchObject({ width: picture.width, height: picture.height, channels: 3 });
    const at = (x: number, y: number) => [...data.subarray(3 * (y * info.width + x)).subarray(0, 3)];
    const [object] = picture.objects;
    if (object === undefined) throw new Error('a picture without objects');
    const centre = at(Math.round(object.x), Math.round(object.y));
    const corner = at(0, 0);
    const distance = Math.hypot(...centre.map((value, channel) => value - (corner[channel] ?? 0)));
    expect(distance).toBeGreaterThan(60);
  });
});
