// Which tokens the model chooses by itself, from a row of logits as it is, and what it is told for that. The others are chosen on the host (sampler.ts), and
// the step after them waits for it.

import { uniform } from './seeded-random.ts';
import type { Sequence } from './sequence.ts';
import { DRAW_VALUES } from './step-inputs.ts';

/** Temperatures that differences of float32 logits can be divided by in float32. */
const TEMPERATURES = { least: 1e-30, most: 1e30 };

/** numGenerated: tokens of the answer before the one in question. */
export function isChosenByModel(
  { sampling, logprobs }: Pick<Sequence, 'sampling' | 'logprobs'>,
  numGenerated: number,
): boolean {
  const { temperature, repetitionPenalty, stopTokenIds, minTokens } = sampling;
  return (
    logprobs === undefined &&
    repetitionPenalty === 1 &&
    (stopTokenIds.length === 0 || numGenerated >= minTokens) &&
    (temperature === 0 || (temperature >= TEMPERATURES.least && temperature <= TEMPERATURES.most))
  );
}

/**
 * Writes into row `row` of draws [L, 4] how the token at `position` of the sequence is chosen, and returns whether that is all: for one that the host chooses
 * the model finds the likeliest, which the host begins with.
 */
export function writeChoice(
  draws: Float64Array,
  row: number,
  sequence: Pick<Sequence, 'sampling' | 'logprobs' | 'seed' | 'promptLength'>,
  position: number,
): boolean {
  const { temperature, topK, topP } = sequence.sampling;
  const byModel = isChosenByModel(sequence, position - sequence.promptLength);
  const isDrawn = byModel && temperature > 0;
  const at = row * DRAW_VALUES;
  draws[at] = isDrawn ? temperature : 0;
  draws[at + 1] = topK;
  draws[at + 2] = topP;
  draws[at + 3] = isDrawn ? uniform(sequence.seed, position) : 0;
  return byModel;
}
