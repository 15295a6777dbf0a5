import { describe, expect, it } from 'vitest';

import { LIMITS, SchedulerBench } from '../../test/support/scheduler-bench.ts';
import { picture, promptOf, submission } from '../../test/support/submissions.ts';
import type { Submission } from './engine.ts';
import type { SchedulerLimits } from './scheduler-limits.ts';
import { Scheduler } from './scheduler.ts';

describe('token budget', () => {
  it('goes to decodes first, then to prefills in chunks, then to waiting sequences', () => {
    const bench = new SchedulerBench();
    bench.add(submission(1, { tokenIds: promptOf(3), sampling: { maxTokens: 9 } }));
    bench.add(submission(2, { tokenIds: promptOf(14) }));
    bench.add(submission(3, { tokenIds: promptOf(5) }));
    expect(bench.step()).toEqual([[1, 0, 3], [2, 0, 5]]); // prettier-ignore
    expect(bench.step()).toEqual([[1, 3, 1], [2, 5, 7]]); // prettier-ignore
    expect(bench.step()).toEqual([[1, 4, 1], [2, 12, 2], [3, 0, 5]]); // prettier-ignore
    expect(bench.step()).toEqual([[1, 5, 1], [2, 14, 1], [3, 5, 1]]); // prettier-ignore
  });

  it('admits at most maxSequences', () => {
    const bench = new SchedulerBench({ maxSequences: 2 });
    for (const handle of [1, 2, 3]) bench.add(submission(handle, { tokenIds: promptOf(1) }));
    expect(bench.step().map(([handle]) => handle)).toEqual([1, 2]);
    expect(bench.scheduler.numWaiting).toBe(1);
  });

  it.each<[string, Partial<SchedulerLimits>]>([
    ['fewer tokens than sequences', { maxBatchedTokens: 3 }],
    ['no blocks', { kvBlocks: 0 }],
    ['a fraction', { blockSize: 1.5 }],
    ['less than no cached picture', { maxCachedImages: -1 }],
  ])('refuses limits with %s', (_, limits) => {
    expect(() => new Scheduler({ ...LIMITS, ...limits })).toThrow(RangeError);
  });
});

describe('order of the waiting', () => {
  it('is by priority, then by arrival', () => {
    const bench = new SchedulerBench({ maxSequences: 1 });
    for (const [handle, priority] of [
      [1, 0],
      [2, 5],
      [3, 5],
      [4, 9],
    ] as const) {
      // prettier-ignore
      bench.add(submission(handle, { priority, tokenIds: promptOf(1), sampling: { maxTokens: 1 } }));
    }
    expect([1, 2, 3, 4].map(() => bench.step()[0]?.[0])).toEqual([4, 2, 3, 1]);
  });

  it('puts first what has waited agingSteps, so that low priority does not starve', () => {
    const bench = new SchedulerBench({ maxSequences: 1, agingSteps: 3 });
    bench.add(submission(0, { priority: 0, tokenIds: promptOf(1), sampling: { maxTokens: 1 } }));
    const order: (number | undefined)[] = [];
    for (let handle = 1; handle <= 5; handle += 1) {
      bench.add(submission(handle, { priority: 9, tokenIds: promptOf(1), sampling: { maxTokens: 1 } }));
      order.push(bench.step()[0]?.[0]);
    }
    expect(order).toEqual([1, 2, 3, 0, 4]);
  });

  it('holds small ones back behind a large one that does not fit yet', () => {
    const bench = new SchedulerBench({ kvBlocks: 4, maxBatchedTokens: 16 });
    bench.add(submission(1, { tokenIds: promptOf(8), sampling: { maxTokens: 2 } }));
    expect(bench.step().map(([handle]) => handle)).toEqual([1]);
    bench.add(submission(2, { tokenIds: promptOf(12) }));
    bench.add(submission(3, { tokenIds: promptOf(1) }));
    expect(bench.step().map(([handle]) => handle)).toEqual([1]);
    expect(bench.step()[0]).toEqual([2, 0, 12]);
  });
});

describe('shortage of blocks', () => {
  it('preempts the lowest priority first, and of equals the youngest', () => {
    const bench = new SchedulerBench({ kvBlocks: 12, blockSize: 1, maxBatchedTokens: 16 });
    const priorities = [1, 0, 1, 0]; // of handles 0 to 3
    for (const [handle, priority] of priorities.entries()) {
      bench.add(submission(handle, { tokenIds: promptOf(2), priority, sampling: { maxTokens: 8 } }));
    }
    const preempted: number[] = [];
    while (bench.scheduler.numRunning + bench.scheduler.numWaiting > 0) {
      const step = bench.schedule();
      preempted.push(...step.plan.preempted);
      bench.scheduler.postprocess(
        step,
        step.sampling.map(() => ({ tokenId: 1 })),
      );
    }
    expect(preempted.slice(0, 3)).toEqual([3, 1, 2]);
    expect(preempted).not.toContain(0);
  });

  it('tells the ranks who was preempted and recomputes prompt and answer', () => {
    const bench = new SchedulerBench({ kvBlocks: 4, maxBatchedTokens: 16 });
    const [, young] = [1, 2].map((handle) =>
      bench.add(submission(handle, { tokenIds: promptOf(3), sampling: { maxTokens: 12 } })),
    );
    const preempted: number[] = [];
    let restart: number[] | undefined;
    while (bench.scheduler.numRunning + bench.scheduler.numWaiting > 0) {
      const step = bench.schedule();
      preempted.push(...step.plan.preempted);
      restart ??= step.plan.sequences
        .filter((each) => preempted.length > 0 && each.handle === 2)
        .map(({ numComputed, numTokens }) => [numComputed, numTokens])[0];
      bench.scheduler.postprocess(
        step,
        step.sampling.map(() => ({ tokenId: 1 })),
      );
    }
    expect(preempted).toEqual([2]);
    expect(restart?.[0]).toBe(0);
    expect(restart?.[1]).toBeGreaterThan(3);
    expect(young?.numGenerated).toBe(12);
  });

  it('takes a decode out of the step again when a better-ranked prefill needs its block', () => {
    const bench = new SchedulerBench({ kvBlocks: 14, blockSize: 1, maxBatchedTokens: 4 });
    bench.add(submission(1, { tokenIds: promptOf(1), sampling: { maxTokens: 9 } }));
    bench.step();
    bench.add(submission(2, { tokenIds: promptOf(11), priority: 1, sampling: { maxTokens: 1 } }));
    for (const computed of [0, 3, 6]) expect(bench.step().at(-1)).toEqual([2, computed, 3]);
    const { plan, inputs } = bench.schedule();
    expect(plan.preempted).toEqual([1]);
    expect(plan.sequences.map(({ handle, numTokens }) => [handle, numTokens])).toEqual([[2, 2]]);
    expect(inputs.ids.length).toBe(2);
  });

  it('ends with an error what outgrows the whole cache', () => {
    const bench = new SchedulerBench({ kvBlocks: 2 });
    const sequence = bench.add(submission(1, { tokenIds: promptOf(7), sampling: { maxTokens: 9 } }));
    bench.step();
    bench.step();
    expect(bench.scheduler.schedule()).toBeUndefined();
    const [end] = bench.scheduler.takeEnded();
    expect(end).toMatchObject({
      reason: 'error',
      message: expect.stringMatching(/KV cache holds 8 tokens/) as string,
    });
    expect(sequence.numGenerated).toBe(2);
    expect(bench.scheduler.numBlocksUsed).toBe(0);
  });

  it('ends with an error a prompt that the cache can never hold', () => {
    const bench = new SchedulerBench({ kvBlocks: 2 });
    bench.add(submission(1, { tokenIds: promptOf(9) }));
    expect(bench.scheduler.schedule()).toBeUndefined();
    expect(bench.ends()).toEqual([[1, 'error']]);
  });
});

describe('end of a sequence', () => {
  it.each<[string, Partial<Submission['sampling']>, number, number, unknown]>([
    ['a stop token, which is not delivered', { stopTokenIds: [1] }, 1, 0, ['stop', 1]],
    ['max_tokens', { maxTokens: 2 }, 2, 2, ['length', undefined]],
    ['no stop token before min_tokens', { stopTokenIds: [1], minTokens: 2, maxTokens: 9 }, 3, 2, ['stop', 1]],
  ])('comes with %s', (_, sampling, steps, generated, end) => {
    const bench = new SchedulerBench();
    const sequence = bench.add(submission(1, { sampling }));
    for (let step = 0; step < steps; step += 1) bench.step();
    expect(sequence.numGenerated).toBe(generated);
    expect(bench.scheduler.takeEnded().map((each) => [each.reason, each.matchedStopTokenId])).toEqual([end]);
    expect(bench.scheduler.numBlocksUsed).toBe(0);
  });

  it('comes with the context length', () => {
    const bench = new SchedulerBench({ maxModelLength: 6 });
    const sequence = bench.add(submission(1, { sampling: { maxTokens: 50 } }));
    bench.step();
    bench.step();
    expect(sequence.numTokens).toBe(6);
    expect(bench.ends()).toEqual([[1, 'length']]);
  });

  it('names what the sampler could not do', () => {
    const bench = new SchedulerBench();
    bench.add(submission(1));
    bench.scheduler.postprocess(bench.schedule(), [{ error: 'the logits are NaN' }]);
    expect(bench.scheduler.takeEnded()).toMatchObject([{ reason: 'error', message: 'the logits are NaN' }]);
  });

  it('refuses another number of tokens than was asked for', () => {
    const bench = new SchedulerBench();
    bench.add(submission(1));
    const step = bench.schedule();
    expect(() => bench.scheduler.postprocess(step, [])).toThrow(/0 tokens for 1 sequences/);
  });
});

describe('abort', () => {
  it('between plan and result frees blocks once, drops the token, and lets the next plan use the blocks', () => {
    const bench = new SchedulerBench({ kvBlocks: 1 });
    const sequence = bench.add(submission(1, { tokenIds: promptOf(3) }));
    const step = bench.schedule();
    bench.scheduler.end(sequence, 'abort');
    bench.scheduler.end(sequence, 'abort');
    bench.add(submission(2, { tokenIds: promptOf(3) }));
    const next = bench.schedule(); // the result of the first is still out
    expect(next.plan).toMatchObject({ finished: [1], sequences: [{ handle: 2, newBlocks: [0] }] });
    expect(bench.scheduler.postprocess(step, [{ tokenId: 1 }])).toEqual([]);
    expect(bench.ends()).toEqual([[1, 'abort']]);
  });

  it('of a sequence that never ran is no business of the ranks', () => {
    const bench = new SchedulerBench();
    bench.scheduler.end(bench.add(submission(1)), 'abort');
    bench.add(submission(2));
    expect(bench.schedule().plan.finished).toEqual([]);
  });

  it('of a handle that is used again at once keeps the two apart', () => {
    const bench = new SchedulerBench();
    const first = bench.add(submission(1));
    const step = bench.schedule();
    bench.scheduler.end(first, 'abort');
    const second = bench.add(submission(1));
    bench.scheduler.postprocess(step, [{ tokenId: 1 }]);
    expect(second.numGenerated).toBe(0);
    expect(bench.schedule().plan).toMatchObject({
      finished: [1],
      sequences: [{ handle: 1, numComputed: 0 }],
    });
  });
});

describe('pictures', () => {
  it('are encoded in the step of their first row, chunks may end inside them, and they go after their last', () => {
    const bench = new SchedulerBench({ maxBatchedTokens: 4 });
    bench.add(submission(1, { tokenIds: promptOf(14), images: [picture('cat', 5, 6)] }));
    const plans = [0, 1, 2, 3].map(() => {
      const { plan } = bench.schedule();
      return [plan.encodeImages, plan.imageRows, plan.freeImages];
    });
    expect(plans).toEqual([
      [[], [], []],
      [[0], [{ image: 0, sourceRow: 0, targetRow: 1, count: 3 }], []],
      [[], [{ image: 0, sourceRow: 3, targetRow: 0, count: 3 }], []],
      [[], [], [0]],
    ]);
  });

  it('are shared by sequences that have the same one', () => {
    const bench = new SchedulerBench({ maxBatchedTokens: 16 });
    for (const handle of [1, 2]) {
      bench.add(submission(handle, { tokenIds: promptOf(6), images: [picture('cat', 1, 4)] }));
    }
    const { plan, pixels } = bench.schedule();
    expect(plan.encodeImages).toEqual([0]);
    expect(plan.imageRows).toEqual([
      { image: 0, sourceRow: 0, targetRow: 1, count: 4 },
      { image: 0, sourceRow: 0, targetRow: 7, count: 4 },
    ]);
    expect([...pixels.keys()]).toEqual([0]);
  });

  it('beyond the encoder budget wait, text before them and decodes do not', () => {
    const bench = new SchedulerBench({ maxBatchedTokens: 32, maxImageEncodes: 1 });
    bench.add(submission(1, { tokenIds: promptOf(1), sampling: { maxTokens: 9 } }));
    bench.add(
      submission(2, { tokenIds: promptOf(12), images: [picture('cat', 1, 4), picture('dog', 7, 4)] }),
    );
    bench.add(submission(3, { tokenIds: promptOf(6), images: [picture('sun', 0, 4)] }));
    expect(bench.step()).toEqual([[1, 0, 1], [2, 0, 7]]); // prettier-ignore
    expect(bench.step()).toEqual([[1, 1, 1], [2, 7, 5]]); // prettier-ignore
    expect(bench.step()).toEqual([[1, 2, 1], [2, 12, 1], [3, 0, 6]]); // prettier-ignore
  });

  it('of a preempted sequence are encoded again', () => {
    const bench = new SchedulerBench({ kvBlocks: 4, maxBatchedTokens: 16 });
    bench.add(submission(1, { tokenIds: promptOf(3), sampling: { maxTokens: 12 } }));
    bench.add(
      submission(2, { tokenIds: promptOf(6), images: [picture('cat', 1, 4)], sampling: { maxTokens: 4 } }),
    );
    let encodes = 0;
    let preempted = 0;
    while (bench.scheduler.numRunning + bench.scheduler.numWaiting > 0) {
      const step = bench.schedule();
      encodes += step.plan.encodeImages.length;
      preempted += step.plan.preempted.length;
      bench.scheduler.postprocess(
        step,
        step.sampling.map(() => ({ tokenId: 1 })),
      );
    }
    expect([preempted, encodes]).toEqual([1, 2]);
  });
});

describe('load', () => {
  it('counts prompt tokens still to be computed', () => {
    const bench = new SchedulerBench();
    bench.add(submission(1, { tokenIds: promptOf(12) }));
    bench.add(submission(2, { tokenIds: promptOf(5) }));
    expect(bench.scheduler.waitingUncachedTokens).toBe(17);
    bench.step();
    expect(bench.scheduler.waitingUncachedTokens).toBe(9);
    expect([bench.scheduler.numRunning, bench.scheduler.numWaiting]).toEqual([1, 1]);
  });
});
