// Sequences that begin alike and start at once: the beginning is computed by one of them.

import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { SchedulerBench } from '../../test/support/scheduler-bench.ts';
import { picture, submission } from '../../test/support/submissions.ts';
import type { SchedulerLimits } from './scheduler-limits.ts';

const SEED = Number.parseInt(process.env['PROPERTY_SEED'] ?? '20261123', 10); // printed by fast-check when a run fails

const LIMITS: Partial<SchedulerLimits> = {
  prefixCache: true,
  kvBlocks: 64,
  maxBatchedTokens: 32,
  maxSequences: 8,
  maxModelLength: 256,
};

/** `shared` tokens that all prompts of a beginning have, then `own` that no other has. */
function prompt(shared: number, own: number, handle: number, beginning = 1): Uint32Array {
  return Uint32Array.from({ length: shared + own }, (_, index) =>
    index < shared ? 1000 * beginning + index : 1_000_000 * (handle + 1) + index,
  );
}

function benchOf(limits: Partial<SchedulerLimits> = {}): SchedulerBench {
  return new SchedulerBench({ ...LIMITS, ...limits });
}

const ONE = { sampling: { maxTokens: 1 } };

describe('sequences that begin alike', () => {
  it('and start in one step: all but the first wait for what it computes', () => {
    const bench = benchOf();
    for (const handle of [1, 2, 3]) bench.add(submission(handle, { tokenIds: prompt(8, 1, handle) }));
    expect(bench.step()).toEqual([[1, 0, 9]]);
    expect(bench.step()).toEqual([[1, 9, 1], [2, 8, 1], [3, 8, 1]]); // prettier-ignore
    expect([1, 2, 3].map((handle) => bench.sequences.get(handle)?.cachedTokens)).toEqual([0, 8, 8]);
    expect(bench.scheduler.cacheLoad(0)).toMatchObject({ promptTokens: 27, hitTokens: 16 });
  });

  it('wait for a prefill in chunks, however many it takes, and no step longer', () => {
    const bench = benchOf({ maxBatchedTokens: 8 });
    for (const handle of [1, 2]) bench.add(submission(handle, { tokenIds: prompt(28, 2, handle), ...ONE }));
    expect([1, 2, 3, 4, 5].map(() => bench.step())).toEqual([
      [[1, 0, 8]],
      [[1, 8, 8]],
      [[1, 16, 8]],
      [[1, 24, 6]],
      [[2, 28, 2]],
    ]);
  });

  it('also wait when the first has begun already', () => {
    const bench = benchOf({ maxBatchedTokens: 24 });
    bench.add(submission(1, { tokenIds: prompt(40, 1, 1), ...ONE }));
    bench.step();
    bench.add(submission(2, { tokenIds: prompt(40, 1, 2), ...ONE }));
    expect(bench.step()).toEqual([[1, 24, 17]]);
    expect(bench.step()).toEqual([[2, 40, 1]]);
  });

  it('encode their picture once', () => {
    const bench = benchOf();
    for (const handle of [1, 2]) {
      const images = [picture('cat', 2, 4)];
      bench.add(submission(handle, { tokenIds: prompt(12, 2, handle), images, ...ONE }));
    }
    expect([bench.step(), bench.step()]).toEqual([[[1, 0, 14]], [[2, 12, 2]]]);
    expect(bench.scheduler.cacheLoad(0)).toMatchObject({ imageHits: 0, imageMisses: 1 });
  });

  it.each<[string, Partial<SchedulerLimits>, number, number, readonly [string, string]]>([
    ['share less than a block', {}, 3, 6, ['', '']],
    ['share little of what they compute', {}, 4, 13, ['', '']],
    ['have different salts', {}, 8, 1, ['', 'tenant']],
    ['have no prefix cache', { prefixCache: false }, 8, 1, ['', '']],
  ])('start together when they %s', (_, limits, shared, own, salts) => {
    const bench = benchOf({ maxBatchedTokens: 64, ...limits });
    for (const [handle, cacheSalt] of salts.entries()) {
      bench.add(submission(handle, { tokenIds: prompt(shared, own, handle), cacheSalt }));
    }
    expect(bench.step()).toEqual([[0, 0, shared + own], [1, 0, shared + own]]); // prettier-ignore
  });

  it('go on by themselves when the first is aborted', () => {
    const bench = benchOf({ maxBatchedTokens: 24 });
    const first = bench.add(submission(1, { tokenIds: prompt(40, 1, 1) }));
    bench.add(submission(2, { tokenIds: prompt(40, 1, 2) }));
    expect(bench.step()).toEqual([[1, 0, 24]]);
    bench.scheduler.end(first, 'abort');
    expect(bench.step()).toEqual([[2, 24, 17]]);
  });
});

describe('behind a sequence that waits for what another computes', () => {
  it('those that are through with their prompt in this step pass, others do not', () => {
    const bench = benchOf({ maxBatchedTokens: 20 });
    for (const handle of [1, 2]) bench.add(submission(handle, { tokenIds: prompt(8, 1, handle) }));
    bench.add(submission(3, { tokenIds: prompt(0, 5, 3) }));
    bench.add(submission(4, { tokenIds: prompt(0, 30, 4) }));
    expect(bench.step()).toEqual([[1, 0, 9], [3, 0, 5]]); // prettier-ignore
    expect(bench.step()).toEqual([[1, 9, 1], [3, 5, 1], [2, 8, 1], [4, 0, 17]]); // prettier-ignore
  });

  it.each<[string, Partial<SchedulerLimits>]>([
    ['place', { maxSequences: 2 }],
    ['blocks', { kvBlocks: 7 }],
  ])('nobody takes its %s', (_, limits) => {
    const bench = benchOf(limits);
    for (const handle of [1, 2]) bench.add(submission(handle, { tokenIds: prompt(8, 1, handle) }));
    bench.add(submission(3, { tokenIds: prompt(0, 5, 3) }));
    expect(bench.step()).toEqual([[1, 0, 9]]);
    expect(bench.step()).toContainEqual([2, 8, 1]);
  });
});

interface Arrival {
  readonly step: number;
  readonly beginning: number;
  readonly own: number;
  readonly priority: number;
  readonly abortAfter: number | undefined;
}

function arrivals(abort: fc.Arbitrary<number | undefined>): fc.Arbitrary<Arrival[]> {
  const arrival = fc.record({
    step: fc.nat(6),
    beginning: fc.nat(1),
    own: fc.integer({ min: 1, max: 11 }),
    priority: fc.nat(1),
    abortAfter: abort,
  });
  return fc.array(arrival, { minLength: 2, maxLength: 10 });
}

/** Runs until all have ended; the prefill tokens computed, the steps taken, and how often somebody was preempted. */
function run(
  bench: SchedulerBench,
  given: readonly Arrival[],
  sharedTokens: number,
): { computed: number; steps: number; preemptions: number } {
  let computed = 0;
  let preemptions = 0;
  let ended = 0;
  let step = 0;
  for (; ended < given.length; step += 1) {
    expect(step, 'steps until all have ended').toBeLessThan(500);
    for (const [handle, { beginning, own, priority, ...times }] of given.entries()) {
      if (times.step === step) {
        const tokenIds = prompt(sharedTokens, own, handle, beginning);
        bench.add(submission(handle, { tokenIds, priority, sampling: { maxTokens: 16 } }));
      }
      const sequence = bench.sequences.get(handle);
      if (sequence !== undefined && times.step + (times.abortAfter ?? Infinity) === step) {
        bench.scheduler.end(sequence, 'abort');
      }
    }
    const isWorking = bench.scheduler.numRunning + bench.scheduler.numWaiting > 0;
    if (isWorking) {
      // Throws when nothing was scheduled: somebody would wait for nobody.
      const scheduled = bench.schedule();
      const { plan, sampling } = scheduled;
      preemptions += plan.preempted.length;
      for (const { handle, numComputed, numTokens } of plan.sequences) {
        const { promptLength } = bench.sequences.get(handle)!;
        computed += Math.max(0, Math.min(promptLength, numComputed + numTokens) - numComputed);
      }
      const choices = sampling.map(() => ({ tokenId: 1 }));
      bench.scheduler.postprocess(scheduled, choices);
      bench.scheduler.checkInvariants();
    }
    ended += bench.ends().length;
  }
  return { computed, steps: step, preemptions };
}

describe('beginnings under random load', () => {
  it('are each computed exactly once while there is memory', () => {
    const sharedTokens = 20;
    fc.assert(
      fc.property(arrivals(fc.constant(undefined)), fc.integer({ min: 8, max: 60 }), (given, budget) => {
        const { computed } = run(benchOf({ maxBatchedTokens: budget, kvBlocks: 200 }), given, sharedTokens);
        const beginnings = new Set(given.map(({ beginning }) => beginning)).size;
        const own = given.reduce((sum, each) => sum + each.own, 0);
        expect(computed).toBe(beginnings * sharedTokens + own);
      }),
      { seed: SEED, numRuns: 300 },
    );
  });

  it('hold nobody up for ever, whoever is aborted or preempted', () => {
    let preemptions = 0;
    fc.assert(
      fc.property(
        arrivals(fc.option(fc.nat(6), { nil: undefined })),
        fc.integer({ min: 8, max: 60 }),
        fc.integer({ min: 13, max: 20 }),
        (given, budget, kvBlocks) => {
          const limits = { maxBatchedTokens: budget, kvBlocks };
          const alone = run(benchOf({ ...limits, prefixCache: false }), given, 20).steps;
          // At most the time that the first takes for a beginning, again for each that was aborted.
          const together = run(benchOf(limits), given, 20);
          expect(together.steps).toBeLessThanOrEqual(alone + 4 * given.length);
          preemptions += together.preemptions;
        },
      ),
      { seed: SEED, numRuns: 300 },
    );
    expect(preemptions).toBeGreaterThan(20); // the scenarios reach what they are for
  });
});
