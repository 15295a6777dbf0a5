// The demo model's answers to a few questions about a drawn picture, greedily decoded.
import { openCheckpoint } from '../runtime/checkpoint/checkpoint.ts';
import { Tokenizer } from '../runtime/tokenizer/tokenizer.ts';
import { buildPrompt } from '../runtime/tokenizer/prompt.ts';
import { loadTestModel, ModelSession } from '../test/support/model-session.ts';

const QUESTIONS = [
  'How many shapes are there?',
  'What colour is the circle?',
  'Describe the picture.',
  'Is there a square?',
];
const TOKENS = 24;

/** A red disc and a blue square on white. */
function picture(size: number): Uint8Array {
  const pixels = new Uint8Array(size * size * 3).fill(255);
  const paint = (x: number, y: number, colour: readonly number[]) => pixels.set(colour, (y * size + x) * 3);
  for (let y = 0; y < size; y++) {
    for (let x = 0; x < size; x++) {
      if ((x - size * 0.3) ** 2 + (y - size * 0.35) ** 2 < (size * 0.15) ** 2) paint(x, y, [220, 40, 40]);
      if (x > size * 0.55 && x < size * 0.85 && y > size * 0.5 && y < size * 0.8) paint(x, y, [40, 60, 220]);
    }
  }
  return pixels;
}

/** Token ids, an answer for each question. `directory`: the demo model's checkpoint. */
export function answers(directory: string, dtype: 'float32' | 'bfloat16'): number[][] {
  const { config } = openCheckpoint(directory);
  const tokenizer = Tokenizer.fromDirectory(directory);
  const model = loadTestModel(directory, { dtype });
  const session = new ModelSession(model);
  model.encodeImage(1, picture(config.vision.imageSize));
  const found = QUESTIONS.map((text) => {
    const prompt = buildPrompt(tokenizer, { messages: [{ role: 'user', text }], imageCount: 1 }, config);
    const images = prompt.images.map(({ offset, length }) => ({
      image: 1,
      position: offset,
      tokens: length,
    }));
    const sequence = session.start(prompt.tokenIds, images);
    const { tokens } = session.greedy(sequence, TOKENS);
    session.finish(sequence);
    return tokens;
  });
  model.close();
  return found;
}
