// Tenants that share an engine: the real scheduler and loop on the simulated clock.

import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { SchedulerBench } from '../../test/support/scheduler-bench.ts';
import { quantile, simulatedRun } from '../../test/support/simulated-run.ts';
import type { Arrival, SimulatedAnswer } from '../../test/support/simulated-run.ts';
import { promptOf, submission } from '../../test/support/submissions.ts';
import { mix } from './seeded-random.ts';
import type { Sequence } from './sequence.ts';

const SEED = Number.parseInt(process.env['PROPERTY_SEED'] ?? '20261123', 10); // printed by fast-check when a run fails

const OPTIONS = { maxSequences: 8, maxBatchedTokens: 512, maxModelLength: 2048, kvBlocks: 2048 };

function randomPrompt(seed: number, length: number): Uint32Array {
  return Uint32Array.from({ length }, (_, index) => mix(seed, index) % 60_000);
}

/** One that comes at once with `count` sequences. */
function flood(count: number, cacheSalt: string): Arrival[] {
  return Array.from({ length: count }, (_, index) => {
    const tokenIds = randomPrompt(index, 100 + (mix(1, index) % 400));
    const sampling = { maxTokens: 20 + (mix(2, index) % 60) };
    return { atMs: 0, submission: submission(index, { tokenIds, sampling, cacheSalt }) };
  });
}

/** One that asks now and then, from handle 10,000 on. */
function trickle(count: number, cacheSalt: string): Arrival[] {
  return Array.from({ length: count }, (_, index) => {
    const tokenIds = randomPrompt(10_000 + index, 200);
    const parts = { tokenIds, cacheSalt, sampling: { maxTokens: 30 } };
    return { atMs: 500 + 1500 * index, submission: submission(10_000 + index, parts) };
  });
}

function queueMs(answers: ReadonlyMap<number, SimulatedAnswer>, from: number, to: number): number[] {
  return [...answers].flatMap(([handle, { end }]) =>
    handle >= from && handle < to ? [(end?.queueUs ?? Infinity) / 1000] : [],
  );
}

function endMs(answers: ReadonlyMap<number, SimulatedAnswer>): number {
  return Math.max(...[...answers.values()].map(({ tokensMs }) => tokensMs.at(-1) ?? Infinity));
}

describe('a tenant that floods', () => {
  const many = flood(600, 'flood');
  const few = trickle(40, 'small');

  it('hardly holds up another, and loses no time to it', async () => {
    const shared = await simulatedRun(OPTIONS, [...many, ...few]);
    const alone = await simulatedRun(OPTIONS, few);
    const oneTenant = await simulatedRun(OPTIONS, [...flood(600, ''), ...trickle(40, '')]);
    const waited = queueMs(shared, 10_000, 20_000);
    const waitedInLine = queueMs(oneTenant, 10_000, 20_000);
    expect(quantile(queueMs(alone, 10_000, 20_000), 1)).toBe(0);
    // It has to wait until the next of eight ends, no longer: sequences take about a second. In one line it was as long as the line.
    expect(quantile(waited, 0.5)).toBeLessThan(150);
    expect(quantile(waited, 0.99)).toBeLessThan(500);
    expect(quantile(waitedInLine, 0.5)).toBeGreaterThan(40_000);
    // The other gives up no more than what the small one gets.
    expect(quantile(queueMs(shared, 0, 10_000), 0.5)).toBeLessThan(
      1.1 * quantile(queueMs(oneTenant, 0, 10_000), 0.5),
    );
    expect(endMs(shared)).toBeLessThan(1.01 * endMs(oneTenant));
  });

  it('changes no answer, and ends', async () => {
    const shared = await simulatedRun(OPTIONS, [...many, ...few]);
    const alone = await simulatedRun(OPTIONS, few);
    for (const [handle, { tokenIds }] of alone) expect(shared.get(handle)?.tokenIds).toEqual(tokenIds);
    expect([...shared.values()].every(({ end }) => end?.reason === 'length')).toBe(true);
  });
});

/** Prompt and twice the answer: what the counters count. */
function costOf(bench: SchedulerBench, tenant: string): number {
  let cost = 0;
  for (const { cacheSalt, numComputed, promptLength, numGenerated } of bench.sequences.values()) {
    if (cacheSalt === tenant && numComputed > 0) cost += promptLength + 2 * numGenerated;
  }
  return cost;
}

describe('tenants under random load', () => {
  const sequence = fc.record({
    tenant: fc.constantFrom('', 'a', 'b', 'c'),
    promptTokens: fc.integer({ min: 1, max: 12 }),
    maxTokens: fc.integer({ min: 1, max: 6 }),
    step: fc.nat(30),
  });

  it('leave no place empty while somebody waits, and all end', () => {
    fc.assert(
      fc.property(fc.array(sequence, { minLength: 1, maxLength: 40 }), (given) => {
        const bench = new SchedulerBench({ maxSequences: 3, maxBatchedTokens: 100, kvBlocks: 100 });
        for (let step = 0; step <= 30 || bench.scheduler.numRunning > 0; step += 1) {
          expect(step, 'steps until all have ended').toBeLessThan(300);
          for (const [handle, { tenant, promptTokens, maxTokens, step: from }] of given.entries()) {
            if (from !== step) continue;
            const tokenIds = promptOf(promptTokens, handle);
            bench.add(submission(handle, { tokenIds, cacheSalt: tenant, sampling: { maxTokens } }));
          }
          const live = bench.scheduler.numRunning + bench.scheduler.numWaiting;
          if (live > 0) expect(bench.step()).toHaveLength(Math.min(3, live));
        }
        expect(bench.ends()).toHaveLength(given.length);
        expect(bench.scheduler.numWaiting).toBe(0);
      }),
      { seed: SEED, numRuns: 200 },
    );
  });

  it('get equal tokens while they wait, whatever the size of what they ask', () => {
    const dearest = 12 + 2 * 6;
    fc.assert(
      fc.property(fc.infiniteStream(fc.nat(1000)), (draws) => {
        const bench = new SchedulerBench({ maxSequences: 3, maxBatchedTokens: 100, kvBlocks: 100 });
        const draw = (least: number, most: number): number =>
          least + (Number(draws.next().value) % (most - least + 1));
        for (let handle = 0; handle < 120; handle += 1) {
          const [cacheSalt, tokens] = handle % 2 === 0 ? ['small', draw(1, 3)] : ['large', draw(9, 12)];
          const tokenIds = promptOf(tokens, handle);
          bench.add(submission(handle, { tokenIds, cacheSalt, sampling: { maxTokens: draw(1, 6) } }));
        }
        const waiting = (tenant: string): boolean =>
          [...bench.sequences.values()].some(
            ({ cacheSalt, state }) => cacheSalt === tenant && state === 'waiting',
          );
        let furthest = 0;
        while (waiting('small') && waiting('large')) {
          bench.step();
          furthest = Math.max(furthest, Math.abs(costOf(bench, 'small') - costOf(bench, 'large')));
        }
        // What may be running of one when the other's turn begins.
        expect(furthest).toBeLessThanOrEqual(4 * dearest);
        expect(costOf(bench, 'large')).toBeGreaterThan(200);
      }),
      { seed: SEED, numRuns: 50 },
    );
  });

  it('are not starved by others that always come anew', () => {
    const bench = new SchedulerBench({ maxSequences: 2, agingSteps: 20 });
    // It has been served more than anybody, and goes on to be; the others are more than fit.
    bench.add(submission(0, { cacheSalt: 'old', tokenIds: promptOf(6), sampling: { maxTokens: 58 } }));
    let second: Sequence | undefined;
    let step = 0;
    for (; second?.state !== 'running'; step += 1) {
      expect(step, 'steps until its turn').toBeLessThan(50);
      for (const handle of [100 + 2 * step, 101 + 2 * step]) {
        bench.add(submission(handle, { cacheSalt: String(handle), sampling: { maxTokens: 1 } }));
      }
      if (step === 10) second = bench.add(submission(1, { cacheSalt: 'old', sampling: { maxTokens: 2 } }));
      bench.step();
    }
    expect(step).toBe(10 + 20 + 1);
  });
});
