// Executes plans by taking time instead of computing. The tokens are a hash of the sequence so far, so equal requests get equal answers
// at any batch composition, as with the model.

import type { AwaitResult, Executor, StepResult } from './executor.ts';
import { mix } from './seeded-random.ts';
import type { Simulation } from './simulation.ts';
import type { StepInputs } from './step-inputs.ts';
import type { ScheduledSequence, StepPlan } from './step-plan.ts';

interface SimulatedSequence {
  readonly blockTable: number[];
  /** Of the tokens computed so far. */
  hash: number;
  numComputed: number;
  /** Known once the first token is wanted. */
  promptLength: number | undefined;
}

export interface SimulatedExecutorOptions {
  readonly simulation: Simulation;
  /** Resolves after so many milliseconds; rejects with an AbortError when the signal aborts. */
  readonly sleep: (ms: number, signal: AbortSignal) => Promise<void>;
  /** Ends a sleep or a simulated stall: execute then rejects with an AbortError. */
  readonly signal: AbortSignal;
}

/** A model that costs time only. Its memory is the scheduler's: kvBlocks and maxSequences. */
export class SimulatedExecutor implements Executor {
  readonly #options: SimulatedExecutorOptions;
  readonly #sequences = new Map<number, SimulatedSequence>();
  /** What a block's keys and values are here: the hash of all tokens up to its end. */
  readonly #contents = new Map<number, number>();
  #steps = 0;
  /** Time owed: timers count whole milliseconds, steps do not. */
  #owedUs = 0;

  constructor(options: SimulatedExecutorOptions) {
    this.#options = options;
  }

  launch(plan: StepPlan, { ids }: StepInputs): AwaitResult {
    const result = this.#execute(plan, ids);
    return () => result;
  }

  async #execute(plan: StepPlan, ids: Int32Array): Promise<StepResult> {
    const { simulation, signal } = this.#options;
    if (this.#steps === simulation.failAfterSteps) {
      throw new Error(`simulated failure after ${String(this.#steps)} steps`);
    }
    if (this.#steps === simulation.stallAfterSteps) await untilAborted(signal);
    this.#steps += 1;
    await this.#spend(this.#durationUs(plan));
    for (const handle of plan.finished) this.#sequences.delete(handle);
    for (const handle of plan.preempted) {
      const sequence = this.#sequences.get(handle);
      if (sequence !== undefined) Object.assign(sequence, { blockTable: [], hash: 0, numComputed: 0 });
    }
    const tokenIds: number[] = [];
    let row = 0;
    for (const scheduled of plan.sequences) {
      const sequence = this.#advance(scheduled, ids.subarray(row, row + scheduled.numTokens));
      row += scheduled.numTokens;
      if (scheduled.wantsLogits) tokenIds.push(this.#nextToken(sequence));
    }
    return { tokenIds };
  }

  /** Microseconds of simulated work. */
  #durationUs(plan: StepPlan): number {
    const { simulation } = this.#options;
    let decodes = 0;
    let prefillTokens = 0;
    for (const { handle, numTokens } of plan.sequences) {
      const decodesNow = numTokens === 1 && this.#sequences.get(handle)?.promptLength !== undefined;
      if (decodesNow) decodes += 1;
      else prefillTokens += numTokens;
    }
    const work =
      simulation.stepUs +
      simulation.stepUsPerSequence * decodes +
      simulation.prefillUsPerToken * prefillTokens +
      simulation.imageEncodeUs * plan.encodeImages.length;
    return work / simulation.speed;
  }

  async #spend(durationUs: number): Promise<void> {
    this.#owedUs += durationUs;
    const wholeMs = Math.floor(this.#owedUs / 1000);
    if (wholeMs === 0) return;
    this.#owedUs -= wholeMs * 1000;
    await this.#options.sleep(wholeMs, this.#options.signal);
  }

  #advance({ handle, numComputed, newBlocks }: ScheduledSequence, tokens: Int32Array): SimulatedSequence {
    const { blockSize } = this.#options.simulation;
    let sequence = this.#sequences.get(handle);
    if (sequence === undefined) {
      sequence = { blockTable: [], hash: 0, numComputed: 0, promptLength: undefined };
      this.#sequences.set(handle, sequence);
    }
    const starts = sequence.blockTable.length === 0;
    sequence.blockTable.push(...newBlocks);
    const prefixEnd = starts ? sequence.blockTable[numComputed / blockSize - 1] : undefined;
    if (prefixEnd !== undefined) {
      // It starts behind blocks of a cached prefix.
      sequence.hash = this.#contents.get(prefixEnd) ?? 0;
      sequence.numComputed = numComputed;
    }
    if (sequence.numComputed !== numComputed) {
      throw new Error(
        `sequence ${String(handle)} goes on at token ${String(numComputed)}, computed so far: ${String(sequence.numComputed)}`,
      );
    }
    for (const token of tokens) {
      sequence.hash = mix(sequence.hash, token);
      sequence.numComputed += 1;
      const block = sequence.blockTable[sequence.numComputed / blockSize - 1];
      if (block !== undefined) this.#contents.set(block, sequence.hash);
    }
    return sequence;
  }

  #nextToken(sequence: SimulatedSequence): number {
    const { tokenIds, stopTokenId, minAnswerTokens, maxAnswerTokens, seed } = this.#options.simulation;
    sequence.promptLength ??= sequence.numComputed;
    const spread = maxAnswerTokens - minAnswerTokens + 1;
    // From the prompt's length, so that it is the same at every token of the answer.
    const answerTokens = minAnswerTokens + (mix(seed, sequence.promptLength) % spread);
    const generated = sequence.numComputed - sequence.promptLength;
    if (stopTokenId !== undefined && generated === answerTokens) return stopTokenId;
    return tokenIds[mix(seed, sequence.hash) % tokenIds.length] ?? 0;
  }
}

function untilAborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    const abort = (): void => {
      reject(signal.reason as Error);
    };
    if (signal.aborted) abort();
    else signal.addEventListener('abort', abort, { once: true });
  });
}
