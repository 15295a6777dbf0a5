// What can be asked about a demo picture, and the one right answer to each question.
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

export const QUESTION_KINDS = ['colour', 'shape', 'count', 'position', 'presence', 'caption'] as const;
export type QuestionKind = (typeof QUESTION_KINDS)[number];

/** A question about one picture with its only right answer. */
export interface Question {
  kind: QuestionKind;
  question: string;
  answer: string;
}

const NUMBERS = ['None', 'One', 'Two', 'Three', 'Four'];

/**
 * All questions about some objects, in one of their wordings each. Nothing ambiguous is asked: "the circle" only where
 * there is one circle or none.
 */
export function askAbout(objects: readonly DrawnObject[], random: Random): Question[] {
  return [
    ...colourQuestions(objects, random),
    ...shapeQuestions(objects, random),
    ...countQuestions(objects, random),
    ...positionQuestions(objects, random),
    ...presenceQuestions(objects, random),
    { kind: 'caption', question: pick(random, CAPTION_WORDINGS), answer: sentence(describe(objects)) },
  ];
}

/** One question of a picture, chosen by seed: first the kind, then one of that kind, so that all kinds weigh the same. */
export function chooseQuestion(questions: readonly Question[], seed: number): Question {
  const random = seededRandom(`question:${seed}`);
  const kind = pick(
    random,
    QUESTION_KINDS.filter((wanted) => questions.some((question) => question.kind === wanted)),
  );
  return pick(
    random,
    questions.filter((question) => question.kind === kind),
  );
}

const CAPTION_WORDINGS = [
  'Describe the picture.',
  'Describe the image.',
  'What is in the picture?',
  'What do you see?',
];

function colourQuestions(objects: readonly DrawnObject[], random: Random): Question[] {
  const ask = (shape: Shape, answer: string): Question => ({
    kind: 'colour',
    question: pick(random, [`What colour is the ${shape}?`, `What color is the ${shape}?`]),
    answer,
  });
  const questions = unique(objects, 'shape').map(({ shape, colour }) => ask(shape, sentence(colour)));
  const missing = anyAbsent(random, SHAPES, objects, 'shape');
  return [...questions, ...missing.map((shape) => ask(shape, `There is no ${shape}.`))];
}

function shapeQuestions(objects: readonly DrawnObject[], random: Random): Question[] {
  const ask = (colour: Colour, answer: string): Question => ({
    kind: 'shape',
    question: pick(random, [`What shape is ${colour}?`, `Which shape is ${colour}?`]),
    answer,
  });
  const questions = unique(objects, 'colour').map(({ shape, colour }) =>
    ask(colour, sentence(`the ${shape}`)),
  );
  const missing = anyAbsent(random, COLOURS, objects, 'colour');
  return [...questions, ...missing.map((colour) => ask(colour, `Nothing is ${colour}.`))];
}

function countQuestions(objects: readonly DrawnObject[], random: Random): Question[] {
  const ask = (what: string, count: number): Question => ({
    kind: 'count',
    question: pick(random, [`How many ${what} are there?`, `How many ${what} do you see?`]),
    answer: `${NUMBERS[count] ?? count}.`,
  });
  const howMany = (key: 'colour' | 'shape', value: string) =>
    objects.filter((object) => object[key] === value).length;
  const shapes = [
    ...new Set(objects.map(({ shape }) => shape)),
    ...anyAbsent(random, SHAPES, objects, 'shape'),
  ];
  const colours = [
    ...new Set(objects.map(({ colour }) => colour)),
    ...anyAbsent(random, COLOURS, objects, 'colour'),
  ];
  return [
    ask('shapes', objects.length),
    ...shapes.map((shape) => ask(`${shape}s`, howMany('shape', shape))),
    ...colours.map((colour) => ask(`${colour} shapes`, howMany('colour', colour))),
  ];
}

function positionQuestions(objects: readonly DrawnObject[], random: Random): Question[] {
  const what = PLACES.map((place): Question => {
    const object = objects.find((candidate) => candidate.place === place);
    return {
      kind: 'position',
      question: pick(random, [`What is in the ${place}?`, `What is in the ${place} corner?`]),
      answer: object === undefined ? 'Nothing.' : sentence(withArticle(object)),
    };
  });
  const where = (name: string, answer: string): Question => ({
    kind: 'position',
    question: `Where is the ${name}?`,
    answer,
  });
  return [
    ...what,
    ...objects.map((object) => where(nameOf(object), sentence(object.place))),
    ...unique(objects, 'shape').map((object) => where(object.shape, sentence(object.place))),
    ...[missingName(objects, random)].map((name) => where(name, `There is no ${name}.`)),
  ];
}

function presenceQuestions(objects: readonly DrawnObject[], random: Random): Question[] {
  const ask = (name: string, answer: string): Question => ({
    kind: 'presence',
    question: `Is there ${article(name)} ${name}?`,
    answer,
  });
  const present = pick(random, objects);
  return [
    ask(nameOf(present), 'Yes.'),
    ask(present.shape, 'Yes.'),
    ask(missingName(objects, random), 'No.'),
    ...anyAbsent(random, SHAPES, objects, 'shape').map((shape) => ask(shape, 'No.')),
  ];
}

/** Objects whose colour (or shape) no other object of the picture has. */
function unique(objects: readonly DrawnObject[], key: 'colour' | 'shape'): DrawnObject[] {
  return objects.filter((object) => objects.every((other) => other === object || other[key] !== object[key]));
}

/** One value that no object has, or none where the picture has them all. */
function anyAbsent<T extends string>(
  random: Random,
  all: readonly T[],
  objects: readonly DrawnObject[],
  key: 'colour' | 'shape',
): T[] {
  return shuffled(random, all)
    .filter((value) => !objects.some((object) => object[key] === value))
    .slice(0, 1);
}

/** A colour and shape that do not occur together; often both occur apart, so that only looking helps. */
function missingName(objects: readonly DrawnObject[], random: Random): string {
  const colours = random() < 0.5 ? objects.map(({ colour }) => colour) : COLOURS;
  const shapes = random() < 0.5 ? objects.map(({ shape }) => shape) : SHAPES;
  const present = new Set(objects.map(nameOf));
  const missing = (hues: readonly Colour[], of: readonly Shape[]) =>
    hues
      .flatMap((colour) => of.map((shape) => nameOf({ colour, shape })))
      .filter((name) => !present.has(name));
  const near = missing(colours, shapes);
  return pick(random, near.length > 0 ? near : missing(COLOURS, SHAPES));
}

function nameOf({ colour, shape }: { colour: Colour; shape: Shape }): string {
  return `${colour} ${shape}`;
}

function article(name: string): string {
  return name.startsWith('o') ? 'an' : 'a';
}

function withArticle(object: { colour: Colour; shape: Shape }): string {
  return `${article(object.colour)} ${nameOf(object)}`;
}

function describe(objects: readonly DrawnObject[]): string {
  const names = objects.map(withArticle);
  const last = names.pop() ?? 'nothing';
  return names.length === 0 ? last : `${names.join(', ')} and ${last}`;
}

function sentence(text: string): string {
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;
}
