// A scheduler with its sequences, stepped without a model.

import type { Submission } from '../../runtime/engine/engine.ts';
import type { ScheduledStep } from '../../runtime/engine/scheduled-step.ts';
import type { SchedulerLimits } from '../../runtime/engine/scheduler-limits.ts';
import { Scheduler } from '../../runtime/engine/scheduler.ts';
import { Sequence } from '../../runtime/engine/sequence.ts';

/** Without caches. */
export const LIMITS: SchedulerLimits = {
  kvBlocks: 16,
  blockSize: 4,
  maxModelLength: 64,
  maxBatchedTokens: 8,
  maxSequences: 4,
  maxImageEncodes: 2,
  maxEncodedImages: 4,
  maxCachedImages: 0,
  agingSteps: 100,
  prefixCache: false,
};

/** A scheduler that gives every sequence token 1, with its sequences by handle. */
export class SchedulerBench {
  readonly scheduler: Scheduler;
  readonly sequences = new Map<number, Sequence>();

  constructor(limits: Partial<SchedulerLimits> = {}) {
    this.scheduler = new Scheduler({ ...LIMITS, ...limits });
  }

  add(request: Submission): Sequence {
    const sequence = new Sequence(request, this.sequences.size, 0n, 0);
    this.sequences.set(request.handle, sequence);
    this.scheduler.add(sequence);
    return sequence;
  }

  schedule(): ScheduledStep {
    const step = this.scheduler.schedule();
    this.scheduler.checkInvariants();
    if (step === undefined) throw new Error('nothing was scheduled');
    return step;
  }

  /** Schedules and finishes a step; [handle, first token, tokens] of each sequence. */
  step(tokenId = 1): number[][] {
    const step = this.schedule();
    this.scheduler.postprocess(
      step,
      step.sampling.map(() => ({ tokenId })),
    );
    this.scheduler.checkInvariants();
    return step.plan.sequences.map(({ handle, numComputed, numTokens }) => [handle, numComputed, numTokens]);
  }

  ends(): unknown[] {
    return this.scheduler.takeEnded().map(({ sequence, reason }) => [sequence.handle, reason]);
  }
}
