// What the step target does for those who wait for their next token while long prompts come in, and what it costs the prompts: the real
// scheduler and loop on the simulated clock.

import { beforeAll, describe, expect, it } from 'vitest';

import { promptOf, submission } from '../../test/support/submissions.ts';
import { SchedulerBench } from '../../test/support/scheduler-bench.ts';
import { quantile, simulatedRun } from '../../test/support/simulated-run.ts';
import type { Arrival, SimulatedAnswer } from '../../test/support/simulated-run.ts';
import { mix } from './seeded-random.ts';

const TALKERS = 12;
/** From then on prompts wait at all times until the last has started. */
const BACKLOG_MS = 2000;

// Times of a large model on accelerators, and of one on CPUs whose decodes alone take longer than the target.
const MACHINES = {
  accelerators: {
    times: { stepUs: 18_000, stepUsPerSequence: 100, prefillUsPerToken: 60 },
    maxBatchedTokens: 4096,
    decodeMs: 20,
    limitMs: 100,
    leastShare: 0.85,
  },
  processors: {
    times: { stepUs: 500_000, stepUsPerSequence: 100, prefillUsPerToken: 3000 },
    maxBatchedTokens: 1024,
    decodeMs: 502,
    limitMs: 1506,
    // Here tokens cost the same in chunks of any size. Where small chunks wait for memory, as on processors they do, it is less that is lost.
    leastShare: 0.75,
  },
};

function randomPrompt(seed: number, length: number): Uint32Array {
  return Uint32Array.from({ length }, (_, index) => mix(seed, index) % 60_000);
}

const prompts = Array.from({ length: 40 }, (_, index) => randomPrompt(index, 2000 + (mix(9, index) % 6000)));
const arrivals: Arrival[] = [
  { atMs: 0, submission: submission(999, { sampling: { maxTokens: 1 } }) }, // warms up
  ...Array.from({ length: TALKERS }, (_, handle) => ({
    atMs: 100,
    submission: submission(handle, { tokenIds: promptOf(50, handle), sampling: { maxTokens: 900 } }),
  })),
  ...prompts.map((tokenIds, index) => ({
    atMs: BACKLOG_MS,
    submission: submission(100 + index, { tokenIds, sampling: { maxTokens: 20 } }),
  })),
];

interface Measured {
  readonly answers: ReadonlyMap<number, SimulatedAnswer>;
  /** Between two tokens of the talkers while prompts wait. */
  readonly gaps: number[];
  /** Prompt tokens a second while prompts wait. */
  readonly prefillRate: number;
}

async function measure(machine: keyof typeof MACHINES, stepTargetMs: number): Promise<Measured> {
  const { times, maxBatchedTokens } = MACHINES[machine];
  const options = { ...times, maxBatchedTokens, maxModelLength: 16_384, kvBlocks: 20_000, stepTargetMs };
  const answers = await simulatedRun(options, arrivals);
  const started = prompts.map((_, index) => answers.get(100 + index)?.tokensMs[0] ?? Infinity);
  const lastMs = Math.max(...started);
  const gaps = Array.from({ length: TALKERS }, (_, handle) => answers.get(handle)?.tokensMs ?? []).flatMap(
    (times) =>
      times.flatMap((ms, index) => {
        const before = times[index - 1];
        return before === undefined || before < BACKLOG_MS || ms > lastMs ? [] : [ms - before];
      }),
  );
  const tokens = prompts.reduce((sum, { length }) => sum + length, 0);
  return { answers, gaps, prefillRate: tokens / ((lastMs - BACKLOG_MS) / 1000) };
}

describe.each(Object.keys(MACHINES) as (keyof typeof MACHINES)[])('a step target on %s', (machine) => {
  const { limitMs, decodeMs, leastShare } = MACHINES[machine];
  let off: Measured;
  let on: Measured;
  beforeAll(async () => {
    off = await measure(machine, 0);
    on = await measure(machine, 100);
  });

  it('keeps the time between tokens near the target while prompts wait', () => {
    expect(on.gaps.length).toBeGreaterThan(300);
    expect(quantile(on.gaps, 0.99)).toBeLessThan(1.1 * limitMs);
    expect(quantile(off.gaps, 0.99)).toBeGreaterThan(2 * limitMs);
    expect(quantile(on.gaps, 0.5)).toBeGreaterThan(decodeMs);
  });

  it('costs prompts little throughput', () => {
    expect(on.prefillRate / off.prefillRate).toBeGreaterThan(leastShare);
  });

  it('changes no answer and starves nobody', () => {
    const tokens = ({ answers }: Measured) =>
      [...answers].map(([handle, { tokenIds }]) => [handle, tokenIds]);
    expect(tokens(on)).toEqual(tokens(off));
    expect([...on.answers.values()].every(({ end }) => end?.reason === 'length')).toBe(true);
    // Prompts still start in the order in which they came.
    const started = prompts.map((_, index) => on.answers.get(100 + index)?.tokensMs[0] ?? Infinity);
    expect(started).toEqual(started.toSorted((a, b) => a - b));
  });
});

describe('the token budget of a step', () => {
  it('is what the caller welcomes beside the decodes, within the limit; the decodes are always in it', () => {
    const bench = new SchedulerBench({ maxBatchedTokens: 12, kvBlocks: 64 });
    for (const handle of [1, 2]) bench.add(submission(handle, { sampling: { maxTokens: 20 } }));
    bench.step();
    bench.add(submission(3, { tokenIds: promptOf(40) }));
    const asked: number[] = [];
    const tokens = [1, 3, Infinity].map((welcome) => {
      const step = bench.scheduler.schedule((decodes) => {
        asked.push(decodes);
        return welcome;
      });
      const choices = step?.sampling.map(() => ({ tokenId: 1 })) ?? [];
      if (step !== undefined) bench.scheduler.postprocess(step, choices);
      return step?.plan.sequences.map(({ numTokens }) => numTokens);
    });
    expect(tokens).toEqual([[1, 1, 1], [1, 1, 3], [1, 1, 10]]); // prettier-ignore
    expect(asked).toEqual([2, 2, 2]);
  });
});
