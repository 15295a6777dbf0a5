// The step loop: schedule, execute, sample, report. It runs where the executor runs (the engine's worker thread, or the main thread when
// simulated) and talks to the outside by submit, abort and one StepOutput per step.

import { fitProblem } from './admission.ts';
import type { SamplingOperations } from './draw.ts';
import type { EngineInfo, EngineLoad, StepDuration, StepOutput, Submission, TokenLogprob } from './engine.ts';
import type { EngineTuning } from './engine-tuning.ts';
import type { AwaitResult, Executor, StepResult } from './executor.ts';
import { finishedSequence } from './finished-sequence.ts';
import type { EndedSequence } from './finished-sequence.ts';
import { maxCachedImages } from '../model/image-bytes.ts';
import { Sampler } from './sampler.ts';
import { Scheduler } from './scheduler.ts';
import { workOf } from './scheduled-step.ts';
import type { ScheduledStep } from './scheduled-step.ts';
import type { SchedulerLimits } from './scheduler-limits.ts';
import type { TokenChoice } from './scheduler.ts';
import { Sequence } from './sequence.ts';
import { StepClock } from './step-clock.ts';
import { StepPace } from './step-pace.ts';

export interface EngineCoreOptions {
  readonly info: EngineInfo;
  readonly tuning: EngineTuning;
  readonly executor: Executor;
  /** Microseconds of a clock that never goes back. */
  readonly now: () => number;
  /** Microseconds that this thread has spent inside native operations so far; the executor has none when absent. */
  readonly nativeUs?: () => number;
  /** The seed of a sequence that was submitted without one. */
  readonly randomSeed: () => bigint;
  /** What draws tokens; plain loops when absent. */
  readonly samplingOperations?: SamplingOperations;
  /** A further reason to end a submission with 'error'; undefined = take it. */
  readonly refuse?: (submission: Submission) => string | undefined;
}

/** A handle was submitted while it was live. */
export class DuplicateHandle extends Error {
  override readonly name = 'DuplicateHandle';
  readonly code = 'duplicate_handle';

  constructor(handle: number) {
    super(
      `handle ${String(handle)} was submitted while it is live: choose handles that are unique among live sequences`,
    );
  }
}

/** Owns the sequences of one replica. Every submitted handle ends exactly once in some output's `finished`, unless step throws. */
export class EngineCore {
  readonly #options: EngineCoreOptions;
  readonly #scheduler: Scheduler;
  readonly #sampler: Sampler;
  readonly #pace: StepPace;
  readonly #live = new Map<number, Sequence>();
  #arrivals = 0;
  #outputs = 0;
  #stepUs = 0;
  readonly #clock: StepClock;
  /** Launched while the step before it was under way. */
  #underWay: StepUnderWay | undefined;
  #wake: (() => void) | undefined;

  constructor(options: EngineCoreOptions) {
    const { info, tuning } = options;
    const limits: SchedulerLimits = {
      kvBlocks: info.kvBlocks,
      blockSize: info.blockSize,
      maxModelLength: info.maxModelLength,
      maxSequences: info.maxSequences,
      maxBatchedTokens: tuning.maxBatchedTokens,
      maxImageEncodes: tuning.maxImageEncodes,
      maxEncodedImages: tuning.maxEncodedImages,
      maxCachedImages: maxCachedImages(tuning),
      agingSteps: tuning.agingSteps,
      prefixCache: tuning.prefixCache,
    };
    this.#options = options;
    this.#scheduler = new Scheduler(limits);
    this.#sampler = new Sampler(info.vocabSize, options.samplingOperations);
    this.#pace = new StepPace(tuning.stepTargetMs * 1000);
    this.#clock = new StepClock(options.now, options.nativeUs);
  }

  /** Accepts submissions, also while a step is under way; one that cannot be served ends with 'error' in the next output. Throws DuplicateHandle, taking none. */
  submit(submissions: readonly Submission[]): void {
    const handles = new Set<number>();
    for (const { handle } of submissions) {
      if (this.#live.has(handle) || handles.has(handle)) throw new DuplicateHandle(handle);
      handles.add(handle);
    }
    if (!this.hasWork) this.#clock.take();
    for (const submission of submissions) {
      const seed = submission.sampling.seed ?? this.#options.randomSeed();
      const sequence = new Sequence(submission, this.#arrivals, seed, this.#options.now());
      this.#arrivals += 1;
      this.#live.set(sequence.handle, sequence);
      const problem = this.#problemOf(submission);
      if (problem === undefined) this.#scheduler.add(sequence);
      else this.#scheduler.end(sequence, 'error', undefined, problem);
    }
    this.#wake?.();
  }

  /** Ends sequences with 'abort', also while a step is under way; unknown and finished handles are left alone. */
  abort(handles: readonly number[]): void {
    for (const handle of handles) {
      const sequence = this.#live.get(handle);
      if (sequence !== undefined) this.#scheduler.end(sequence, 'abort');
    }
    this.#wake?.();
  }

  /** Ends everything; returns the output that says so, undefined when nothing was live. */
  abortAll(): StepOutput | undefined {
    this.abort([...this.#live.keys()]);
    return this.#endings();
  }

  /** Some sequence is live. */
  get hasWork(): boolean {
    return this.#live.size > 0;
  }

  /** Microseconds since a step last finished while there was work; 0 when idle. */
  get stalledUs(): number {
    return this.hasWork ? this.#clock.elapsedUs : 0;
  }

  load(): EngineLoad {
    const scheduler = this.#scheduler;
    return {
      running: scheduler.numRunning,
      waiting: scheduler.numWaiting,
      waitingUncachedTokens: scheduler.waitingUncachedTokens,
      kvBlocksUsed: scheduler.numBlocksUsed,
      kvBlocks: this.#options.info.kvBlocks,
      stepUs: this.#stepUs,
      caches: scheduler.cacheLoad(this.#options.tuning.imageBytes),
    };
  }

  /** Runs one step and reports it, also when it gave no token yet; undefined when there was nothing to run or to report. What it throws is fatal: the engine must not be used further. */
  async step(): Promise<StepOutput | undefined> {
    const current = this.#underWay ?? this.#launch();
    if (current === undefined) return this.#endings();
    const { step } = current;
    // The next step is on its way before this one's tokens are looked at: the device never waits for JavaScript.
    this.#underWay = this.#mayRunAhead(step) ? this.#launch() : undefined;
    const result = await current.result();
    const logprobs: TokenLogprobs = new Map();
    const choices = this.#choose(step, result, logprobs);
    const nowUs = this.#options.now();
    for (const sequence of step.sampling) {
      if (sequence.state !== 'finished') sequence.firstTokenUs ??= nowUs;
    }
    const delivered = this.#scheduler.postprocess(step, choices);
    const duration = this.#clock.take();
    this.#stepUs = duration.us;
    const work = workOf(step);
    this.#pace.observe({ ...work, images: step.plan.encodeImages.length, us: duration.us });
    const ended = this.#scheduler.takeEnded();
    return { ...this.#output(delivered, logprobs, ended, duration), prefillTokens: work.prefillTokens };
  }

  #launch(): StepUnderWay | undefined {
    const startUs = this.#options.now();
    const step = this.#scheduler.schedule((decodes) => this.#pace.prefillTokens(decodes));
    if (step === undefined) return undefined;
    for (const sequence of step.sequences) sequence.scheduledUs ??= startUs;
    return { step, result: this.#options.executor.launch(step.plan, step.inputs, step.pixels) };
  }

  /** The tokens that the step gives are those that the executor takes for them by itself. */
  #mayRunAhead({ byModel }: ScheduledStep): boolean {
    return this.#options.executor.runsAhead === true && byModel.every((itself) => itself);
  }

  /**
   * Steps until the signal aborts, then ends what is left with 'abort'. Between steps the event loop turns once, so that messages get in;
   * without work it sleeps until submit or abort. Rejects with whatever a step throws.
   */
  async run(signal: AbortSignal, emit: (output: StepOutput) => void): Promise<void> {
    const onAbort = (): void => this.#wake?.();
    signal.addEventListener('abort', onAbort);
    try {
      while (!signal.aborted) {
        if (!this.hasWork) await this.#sleep(signal);
        else {
          const output = await this.step();
          if (output !== undefined) emit(output);
          await new Promise((resolve) => setImmediate(resolve));
        }
      }
      const last = this.abortAll();
      if (last !== undefined) emit(last);
    } finally {
      signal.removeEventListener('abort', onAbort);
    }
  }

  /** Throws unless blocks, images and live handles are accounted for; for tests. */
  checkInvariants(): void {
    this.#scheduler.checkInvariants();
  }

  async #sleep(signal: AbortSignal): Promise<void> {
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
      if (signal.aborted || this.hasWork) resolve();
    });
    this.#wake = undefined;
  }

  #problemOf(submission: Submission): string | undefined {
    const { maxWaiting } = this.#options.tuning;
    if (this.#scheduler.numWaiting >= maxWaiting) {
      return `${String(maxWaiting)} sequences are waiting already: submit against credits`;
    }
    return fitProblem(submission, this.#options.info)?.message ?? this.#options.refuse?.(submission);
  }

  #choose(step: ScheduledStep, result: StepResult, logprobs: TokenLogprobs): TokenChoice[] {
    const rows = 'logits' in result ? result.logits.numRows : result.tokenIds.length;
    if (rows !== step.sampling.length) {
      throw new Error(
        `step ${String(step.plan.step)}: the executor gave ${String(rows)} rows for ${String(step.sampling.length)} sequences`,
      );
    }
    return step.sampling.map((sequence, row) => {
      if (sequence.state === 'finished') return { tokenId: 0 }; // aborted during the step, passed over in postprocess
      if (!('logits' in result)) {
        const tokenId = result.tokenIds[row] ?? 0;
        if (sequence.logprobs !== undefined) logprobs.set(sequence, certain(tokenId, sequence.logprobs));
        return { tokenId };
      }
      const found = result.logits.chosen?.[row] ?? -1;
      if (found !== -1 && step.byModel[row] === true) return { tokenId: found };
      // Without one the sampler says why, unless the row has made room for those of the step under way.
      if (this.#underWay !== undefined) return { error: unusable(sequence) };
      const sampled = this.#sampler.sample({
        logits: result.logits.row(row),
        best: found === -1 ? undefined : found,
        tokens: sequence.tokens,
        promptLength: sequence.promptLength,
        params: sequence.sampling,
        seed: sequence.seed,
        logprobs: sequence.logprobs,
      });
      if ('error' in sampled) return sampled;
      if (sampled.logprob !== undefined) logprobs.set(sequence, sampled.logprob);
      return { tokenId: sampled.tokenId };
    });
  }

  /** The report of what ended without a step. */
  #endings(): StepOutput | undefined {
    const ended = this.#scheduler.takeEnded();
    return ended.length === 0 ? undefined : this.#output([], new Map(), ended, undefined);
  }

  #output(
    delivered: readonly { readonly sequence: Sequence; readonly tokenId: number }[],
    logprobs: TokenLogprobs,
    ended: readonly EndedSequence[],
    duration: StepDuration | undefined,
  ): StepOutput {
    for (const { sequence } of ended) this.#live.delete(sequence.handle);
    const withLogprobs = delivered.flatMap(({ sequence }) => {
      const logprob = logprobs.get(sequence);
      return logprob === undefined ? [] : [{ handle: sequence.handle, tokens: [logprob] }];
    });
    const nowUs = this.#options.now();
    this.#outputs += 1;
    return {
      step: this.#outputs,
      handles: delivered.map(({ sequence }) => sequence.handle),
      counts: delivered.map(() => 1),
      tokenIds: delivered.map(({ tokenId }) => tokenId),
      logprobs: withLogprobs,
      finished: ended.map((end) => finishedSequence(end, nowUs)),
      duration,
      prefillTokens: 0,
      load: this.load(),
    };
  }
}

function unusable({ numTokens }: Sequence): string {
  return `the model's logits are not numbers, or none is finite, at position ${String(numTokens)}`;
}

interface StepUnderWay {
  readonly step: ScheduledStep;
  readonly result: AwaitResult;
}

type TokenLogprobs = Map<Sequence, TokenLogprob>;

/** Of an executor that chooses tokens itself: a distribution of one token. */
function certain(tokenId: number, count: number): TokenLogprob {
  return { tokenId, logprob: 0, top: count > 0 ? [{ tokenId, logprob: 0 }] : [] };
}
