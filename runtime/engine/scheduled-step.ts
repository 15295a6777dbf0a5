// A step as the scheduler hands it over: the plan for every rank, and what only rank 0 needs beside it.

import { placeholderOf } from './executor.ts';
import { writeChoice } from './model-choice.ts';
import type { Sequence } from './sequence.ts';
import type { StepWork } from './step-cost.ts';
import { ReusedStepInputs } from './step-inputs.ts';
import type { StepInputs } from './step-inputs.ts';
import type { ImageRows, ScheduledSequence, StepPlan } from './step-plan.ts';

/** A plan with what only rank 0 needs of it. */
export interface ScheduledStep {
  readonly plan: StepPlan;
  /** Valid until the next step. */
  readonly inputs: StepInputs;
  /** Of plan.encodeImages. */
  readonly pixels: ReadonlyMap<number, Uint8Array>;
  /** plan.sequences, in order. */
  readonly sequences: readonly Sequence[];
  /** Those that want logits, in order: one choice each is due in postprocess. */
  readonly sampling: readonly Sequence[];
  /** Of each of them: the model chooses the token by itself. */
  readonly byModel: readonly boolean[];
}

/** What a plan says beside the sequences that it schedules. */
export interface StepChanges extends Pick<StepPlan, 'step' | 'finished' | 'preempted' | 'freeImages'> {
  readonly encode: ReadonlyMap<number, Uint8Array>;
}

/** Writes down the step that computes so many tokens of each sequence; its blocks and pictures are already its own. memory: for its inputs. */
export function buildStep(
  chosen: ReadonlyMap<Sequence, number>,
  changes: StepChanges,
  memory = new ReusedStepInputs(),
): ScheduledStep {
  let numTokens = 0;
  let numLogits = 0;
  for (const [sequence, count] of chosen) {
    numTokens += count;
    if (wantsLogits(sequence, count)) numLogits += 1;
  }
  const inputs = memory.of(numTokens, numLogits);
  const scheduled: ScheduledSequence[] = [];
  const imageRows: ImageRows[] = [];
  const sampling: Sequence[] = [];
  const byModel: boolean[] = [];
  let row = 0;
  for (const [sequence, count] of chosen) {
    const start = sequence.numComputed;
    const end = start + count;
    const isLast = wantsLogits(sequence, count);
    const newBlocks = sequence.blockTable.slice(sequence.numPublishedBlocks);
    sequence.copyTokens(start, end, inputs.ids, row, placeholderOf(sequence.pendingRow));
    imageRows.push(...rowsOf(sequence, start, end, row));
    const { handle } = sequence;
    scheduled.push({ handle, numComputed: start, numTokens: count, newBlocks, wantsLogits: isLast });
    if (isLast) {
      byModel.push(writeChoice(inputs.draws, sampling.length, sequence, end));
      sampling.push(sequence);
    }
    row += count;
  }
  const { step, finished, preempted, freeImages, encode } = changes;
  const encodeImages = [...encode.keys()];
  return {
    plan: { step, sequences: scheduled, finished, preempted, freeImages, encodeImages, imageRows },
    inputs,
    pixels: encode,
    sequences: [...chosen.keys()],
    sampling,
    byModel,
  };
}

/** The step computes the last of its tokens, known or under way. */
function wantsLogits(sequence: Sequence, count: number): boolean {
  return sequence.numComputed + count === sequence.numExpected;
}

/** What the step computes, as far as its duration goes. */
export function workOf({ plan: { sequences } }: ScheduledStep): StepWork {
  const work = { decodes: 0, prefillTokens: 0 };
  for (const { numTokens } of sequences) {
    if (numTokens === 1) work.decodes += 1;
    else work.prefillTokens += numTokens;
  }
  return work;
}

/** The rows of held pictures in tokens [start, end) of a sequence whose token `start` is row `row` of the step. */
function* rowsOf(sequence: Sequence, start: number, end: number, row: number): Generator<ImageRows> {
  for (const { encoded, offset, length } of sequence.images) {
    const from = Math.max(start, offset);
    const count = Math.min(end, offset + length) - from;
    if (count < 1) continue;
    if (encoded === undefined) {
      throw new Error(`sequence ${String(sequence.handle)} needs a picture it does not hold`);
    }
    yield { image: encoded, sourceRow: from - offset, targetRow: row + from - start, count };
  }
}
