// Rank 0's engine thread: the step loop. Plans for the other ranks leave before the forward pass, so that all ranks compute at once.

import { randomBytes } from 'node:crypto';
import { LeaderMessage } from '../../gen/proto/internvl/shard/v1/shard.ts';
import type { Model } from '../engine/batch.ts';
import { EngineCore } from '../engine/engine-core.ts';
import type { SamplingOperations } from '../engine/draw.ts';
import type { EngineTuning } from '../engine/engine-tuning.ts';
import type { EngineInfo, Submission } from '../engine/engine.ts';
import { ModelExecutor } from '../engine/executor.ts';
import type { StepPlan } from '../engine/step-plan.ts';
import type { Native } from '../native/index.ts';
import { toWirePlan } from '../shard/plan-codec.ts';
import type { FromWorker } from './messages.ts';

export interface LeaderLoopOptions {
  readonly info: EngineInfo;
  readonly model: Model;
  readonly tuning: EngineTuning;
  /** Other ranks follow and get the plans. */
  readonly followed: boolean;
  readonly native: Pick<Native, 'nanosecondsInside'> & SamplingOperations;
  readonly progress: () => void;
  readonly post: (message: FromWorker, transfer?: ArrayBuffer[]) => void;
}

/** Runs EngineCore over the model and posts what each step produced. */
export class LeaderLoop {
  readonly #options: LeaderLoopOptions;
  readonly #core: EngineCore;
  readonly #stop = new AbortController();
  #submissionsSeen = 0;
  #stepStart = 0;

  constructor(options: LeaderLoopOptions) {
    this.#options = options;
    const { info, model, tuning, followed } = options;
    this.#core = new EngineCore({
      info,
      tuning,
      executor: new ModelExecutor({
        model,
        blockSize: info.blockSize,
        kvBlocks: info.kvBlocks,
        publish: (plan) => this.#publish(plan),
        verify: (step, planHash) => {
          options.progress();
          if (followed) this.#done(step, planHash);
        },
      }),
      now: () => performance.now() * 1000,
      nativeUs: () => options.native.nanosecondsInside() / 1000,
      samplingOperations: options.native,
      randomSeed: () => randomBytes(8).readBigUInt64LE(),
    });
  }

  /** Resolves after stop(); rejects with what is fatal to the group. */
  run(): Promise<void> {
    return this.#core.run(this.#stop.signal, (output) => {
      this.#options.post({
        type: 'output',
        output,
        load: output.load,
        submissionsSeen: this.#submissionsSeen,
      });
    });
  }

  submit(submissions: readonly Submission[]): void {
    this.#submissionsSeen += submissions.length;
    this.#core.submit(submissions);
  }

  abort(handles: readonly number[]): void {
    this.#core.abort(handles);
  }

  stop(): void {
    this.#stop.abort();
  }

  #publish(plan: StepPlan): void {
    this.#options.progress();
    this.#stepStart = performance.now();
    if (!this.#options.followed) return;
    const bytes = LeaderMessage.encode({
      message: { $case: 'stepPlan', value: toWirePlan(plan) },
    }).finish();
    const own = Uint8Array.from(bytes); // the writer's buffer may be shared with other messages
    this.#options.post({ type: 'plan', step: plan.step, bytes: own }, [own.buffer]);
  }

  #done(step: number, planHash: number): void {
    const computeUs = Math.round((performance.now() - this.#stepStart) * 1000);
    this.#options.post({ type: 'stepDone', step, planHash, computeUs });
  }
}
