// The pictures of examples/pictures/ and what their README says.
import { drawPicture } from './demo-pictures.ts';

/** File names and seeds (evaluation domain: the demo model has not seen them in training). */
export const EXAMPLES = [
  { file: 'shapes.png', seed: 1_000_177 },
  { file: 'four-colours.png', seed: 1_000_413 },
  { file: 'two-circles.png', seed: 1_000_067 },
  { file: 'square-and-circle.png', seed: 1_000_008 },
] as const;

/** The README of the example pictures, in Markdown. */
export function describeExamples(): string {
  const lines = [
    '# Example pictures',
    '',
    'Drawn by the generator of the demo model (`node tools/draw-demo-examples.ts`) from seeds that training does not use.',
    'The answers are the right ones; the demo model gives nearly all of them word for word (its figures: `../demo-model/README.md`).',
  ];
  for (const { file, seed } of EXAMPLES) {
    lines.push('', `## ${file}`, '', `![${file}](${file})`, '', `Seed ${seed}.`, '');
    for (const { question, answer } of drawPicture(seed).questions) lines.push(`- ${question} **${answer}**`);
  }
  return `${lines.join('\n')}\n`;
}
