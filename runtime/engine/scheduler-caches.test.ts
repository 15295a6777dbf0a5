// What a prefix and pictures that are there already change in the plans.

import { describe, expect, it } from 'vitest';

import { SchedulerBench } from '../../test/support/scheduler-bench.ts';
import { picture, promptOf, submission } from '../../test/support/submissions.ts';

describe('a cached prefix', () => {
  const caching = { prefixCache: true, maxBatchedTokens: 32 };

  it('is given to the next sequence instead of being computed, its pictures not encoded', () => {
    const bench = new SchedulerBench(caching);
    const request = { tokenIds: promptOf(14), images: [picture('cat', 5, 6)], sampling: { maxTokens: 1 } };
    bench.add(submission(1, request));
    bench.step();
    const second = bench.add(submission(2, request));
    expect(bench.scheduler.waitingUncachedTokens).toBe(2);
    const { plan, inputs } = bench.schedule();
    expect(plan).toMatchObject({
      sequences: [{ handle: 2, numComputed: 12, numTokens: 2, newBlocks: [0, 1, 2, 3] }],
      encodeImages: [],
      imageRows: [],
    });
    expect(Array.from(inputs.ids)).toEqual(Array.from(promptOf(14).subarray(12)));
    expect([second.cachedTokens, bench.scheduler.cacheLoad(10)]).toEqual([
      12,
      { promptTokens: 28, hitTokens: 12, idleBlocks: 0, imageHits: 0, imageMisses: 1, imageBytes: 0 },
    ]);
  });

  it('that ends inside a picture leaves its other rows to encode', () => {
    const bench = new SchedulerBench(caching);
    const images = [picture('cat', 5, 6)];
    bench.add(submission(1, { tokenIds: promptOf(14), images, sampling: { maxTokens: 1 } }));
    bench.step();
    bench.add(submission(9, { sampling: { maxTokens: 1 } }));
    bench.step(); // drops the picture
    bench.add(submission(2, { tokenIds: promptOf(14).fill(12, 11), images }));
    expect(bench.schedule().plan).toMatchObject({
      sequences: [{ numComputed: 8, numTokens: 6 }],
      encodeImages: [0],
      imageRows: [{ image: 0, sourceRow: 3, targetRow: 0, count: 3 }],
    });
  });

  it('lets sequences run together that would not fit without it', () => {
    const bench = new SchedulerBench({ ...caching, kvBlocks: 6 });
    const tokenIds = promptOf(14); // three whole blocks and one of its own
    bench.add(submission(1, { tokenIds, sampling: { maxTokens: 2 } }));
    bench.step();
    for (const handle of [2, 3]) bench.add(submission(handle, { tokenIds, sampling: { maxTokens: 2 } }));
    expect(bench.step()).toEqual([[1, 14, 1], [2, 12, 2]]); // prettier-ignore
    expect(bench.step()).toEqual([[2, 14, 1], [3, 12, 2]]); // prettier-ignore
    expect(bench.scheduler.numBlocksUsed).toBe(4);
  });

  it('of itself is what a preempted sequence finds again', () => {
    const bench = new SchedulerBench({ ...caching, kvBlocks: 5 });
    for (const handle of [1, 2])
      bench.add(submission(handle, { tokenIds: promptOf(7, handle), sampling: { maxTokens: 8 } }));
    const restarts: number[] = [];
    const preempted = new Set<number>();
    while (bench.scheduler.numRunning + bench.scheduler.numWaiting > 0) {
      const step = bench.schedule();
      for (const { handle, numComputed } of step.plan.sequences)
        if (preempted.delete(handle)) restarts.push(numComputed);
      for (const handle of step.plan.preempted) preempted.add(handle);
      bench.scheduler.postprocess(
        step,
        step.sampling.map(() => ({ tokenId: 1 })),
      );
    }
    expect(restarts).toEqual([4]);
    expect(bench.scheduler.cacheLoad(0)).toMatchObject({ promptTokens: 14, hitTokens: 0 });
  });
});

describe('encoded pictures', () => {
  it('stay for later sequences of the same salt', () => {
    const bench = new SchedulerBench({ maxBatchedTokens: 32, maxCachedImages: 1 });
    const encodes: number[] = [];
    for (const [handle, cacheSalt] of ['', '', 'tenant', 'tenant', ''].entries()) {
      const images = [picture('cat', 1, 4)];
      bench.add(submission(handle, { tokenIds: promptOf(6), images, cacheSalt, sampling: { maxTokens: 1 } }));
      const step = bench.schedule();
      encodes.push(step.plan.encodeImages.length);
      bench.scheduler.postprocess(
        step,
        step.sampling.map(() => ({ tokenId: 1 })),
      );
    }
    expect(encodes).toEqual([1, 0, 1, 0, 0]);
    expect(bench.scheduler.cacheLoad(10)).toMatchObject({ imageHits: 3, imageMisses: 2 });
  });
});
