import { describe, expect, it } from 'vitest';

import { picture, promptOf, submission } from '../../test/support/submissions.ts';
import type { FinishedSequence, StepOutput, Submission } from './engine.ts';
import { SimulatedEngine } from './simulated-engine.ts';
import { parseSimulation } from './simulation.ts';

interface Answer {
  readonly tokenIds: number[];
  end?: FinishedSequence;
}

/** A simulated engine on a clock that moves only when the engine sleeps. */
class Bench {
  readonly engine: SimulatedEngine;
  readonly answers = new Map<number, Answer>();
  readonly outputs: StepOutput[] = [];
  fatal: Error | undefined;
  clockMs = 0;
  #changed: () => void = () => undefined;

  constructor(options: Record<string, unknown> = {}) {
    this.engine = new SimulatedEngine({
      simulation: parseSimulation(options),
      now: () => this.clockMs * 1000,
      sleep: async (ms, signal) => {
        signal.throwIfAborted();
        this.clockMs += ms;
        return Promise.resolve();
      },
    });
    this.engine.listen({
      onStep: (output) => {
        this.#take(output);
      },
      onFatal: (error) => {
        this.fatal = error;
        this.#changed();
      },
    });
  }

  submit(...submissions: Submission[]): void {
    for (const { handle } of submissions) this.answers.set(handle, { tokenIds: [] });
    this.engine.submit(submissions);
  }

  async until(condition: () => boolean): Promise<void> {
    while (!condition()) await new Promise<void>((resolve) => (this.#changed = resolve));
  }

  async done(): Promise<Map<number, Answer>> {
    await this.until(() => [...this.answers.values()].every(({ end }) => end !== undefined));
    return this.answers;
  }

  #take(output: StepOutput): void {
    this.outputs.push(output);
    for (const [index, handle] of output.handles.entries()) {
      this.answers.get(handle)?.tokenIds.push(output.tokenIds[index] ?? -1);
    }
    for (const end of output.finished) {
      const answer = this.answers.get(end.handle);
      if (answer === undefined || answer.end !== undefined)
        throw new Error(`surplus end of ${String(end.handle)}`);
      answer.end = end;
    }
    this.#changed();
  }
}

async function answerTo(
  request: Submission,
  options: Record<string, unknown> = {},
): Promise<Answer | undefined> {
  const bench = new Bench(options);
  bench.submit(request);
  const answer = (await bench.done()).get(request.handle);
  await bench.engine.close();
  return answer;
}

describe('simulated engine', () => {
  it('takes the time it is told to', async () => {
    const times = { stepUs: 10_000, stepUsPerSequence: 1000, prefillUsPerToken: 100, imageEncodeUs: 50_000 };
    const request = submission(1, {
      tokenIds: promptOf(20),
      images: [picture('cat', 2, 5)],
      sampling: { maxTokens: 3 },
    });
    const answer = await answerTo(request, times);
    expect(answer?.end).toMatchObject({ queueUs: 0, firstTokenUs: 62_000, totalUs: 62_000 + 2 * 11_000 });
    const faster = await answerTo(request, { ...times, speed: 10 });
    expect(faster?.end?.firstTokenUs).toBe(6000);
    expect(faster?.end?.totalUs).toBe(8000); // 8.4 ms, timers count whole ones
  });

  it('answers equally alone and in company, short of memory or not', async () => {
    const requests = Array.from({ length: 12 }, (_, handle) =>
      submission(handle, { tokenIds: promptOf(10 + handle, handle), sampling: { maxTokens: 40 } }),
    );
    const alone = await Promise.all(requests.map((request) => answerTo(request)));
    const bench = new Bench({ kvBlocks: 12, maxSequences: 8, maxBatchedTokens: 24 });
    bench.submit(...requests);
    const together = await bench.done();
    expect(requests.map(({ handle }) => together.get(handle)?.tokenIds)).toEqual(
      alone.map((each) => each?.tokenIds),
    );
    expect(new Set(alone.map((each) => String(each?.tokenIds))).size).toBe(12);
    expect(Math.max(...bench.outputs.map(({ load }) => load.kvBlocksUsed))).toBeGreaterThan(9);
    expect(bench.engine.load()).toMatchObject({ running: 0, waiting: 0, kvBlocksUsed: 0 });
  });

  it('takes no time for what its caches have, and answers the same', async () => {
    const times = { stepUs: 0, stepUsPerSequence: 0, prefillUsPerToken: 1000, imageEncodeUs: 50_000 };
    const request = {
      tokenIds: promptOf(40),
      images: [picture('cat', 20, 5)],
      sampling: { maxTokens: 20 },
    };
    const bench = new Bench(times);
    bench.submit(submission(1, request));
    await bench.done();
    bench.submit(submission(2, request), submission(3, { ...request, cacheSalt: 'tenant' }));
    const answers = await bench.done();
    expect(answers.get(1)?.end).toMatchObject({ totalUs: 90_000, cachedTokens: 0 });
    expect([2, 3].map((handle) => answers.get(handle)?.end?.cachedTokens)).toEqual([32, 0]);
    expect(bench.clockMs).toBe(90 + 8 + 90);
    expect(answers.get(2)?.tokenIds).toEqual(answers.get(1)?.tokenIds);
    const off = await answerTo(submission(1, request), { ...times, prefixCache: false });
    expect(off?.tokenIds).toEqual(answers.get(1)?.tokenIds);
  });

  it('goes on to max_tokens, or stops by itself within the given bounds', async () => {
    const sampling = { maxTokens: 50, stopTokenIds: [7] };
    expect((await answerTo(submission(1, { sampling })))?.end?.reason).toBe('length');
    const stopping = { stopTokenId: 7, minAnswerTokens: 5, maxAnswerTokens: 8 };
    for (const length of [3, 4, 5, 6]) {
      const answer = await answerTo(submission(1, { tokenIds: promptOf(length), sampling }), stopping);
      expect(answer?.end).toMatchObject({ reason: 'stop', matchedStopTokenId: 7 });
      expect(answer?.tokenIds.length).toBeGreaterThanOrEqual(5);
      expect(answer?.tokenIds.length).toBeLessThanOrEqual(8);
    }
  });

  it('answers with the given tokens only, and with log-probabilities when asked', async () => {
    const bench = new Bench({ tokenIds: [40, 41] });
    bench.submit(submission(1, { logprobs: 1, sampling: { maxTokens: 30 } }));
    const tokens = (await bench.done()).get(1)?.tokenIds ?? [];
    expect(new Set(tokens)).toEqual(new Set([40, 41]));
    expect(bench.outputs[0]?.logprobs).toEqual([
      { handle: 1, tokens: [{ tokenId: tokens[0], logprob: 0, top: [{ tokenId: tokens[0], logprob: 0 }] }] },
    ]);
  });

  it('refuses a share of the submissions, always the same', async () => {
    const refused = async (): Promise<number[]> => {
      const bench = new Bench({ rejectRate: 0.3, maxWaiting: 4096 });
      bench.submit(
        ...Array.from({ length: 200 }, (_, handle) => submission(handle, { sampling: { maxTokens: 1 } })),
      );
      const answers = await bench.done();
      return [...answers].flatMap(([handle, { end }]) => (end?.reason === 'error' ? [handle] : []));
    };
    const first = await refused();
    expect(first.length).toBeGreaterThan(30);
    expect(first.length).toBeLessThan(90);
    expect(await refused()).toEqual(first);
  });

  it('is lost after failAfterSteps, and says nothing more', async () => {
    const bench = new Bench({ failAfterSteps: 2 });
    bench.submit(submission(1, { sampling: { maxTokens: 9 } }));
    await bench.until(() => bench.fatal !== undefined);
    expect(bench.fatal?.message).toMatch(/after 2 steps/);
    expect(bench.answers.get(1)?.tokenIds).toHaveLength(2);
    bench.submit(submission(2));
    bench.engine.abort([1]);
    await bench.engine.close();
    expect(bench.outputs).toHaveLength(2);
  });

  it('makes no progress after stallAfterSteps, and can still be closed', async () => {
    const bench = new Bench({ stallAfterSteps: 1 });
    expect(bench.engine.stalledMs()).toBe(0);
    bench.submit(submission(1));
    await bench.until(() => bench.outputs.length === 1);
    bench.clockMs += 5000;
    expect(bench.engine.stalledMs()).toBe(5000);
    await bench.engine.close();
    expect(bench.answers.get(1)?.end?.reason).toBe('abort');
    expect(bench.fatal).toBeUndefined();
    expect(bench.engine.load().kvBlocksUsed).toBe(0);
  });

  it('ends what is running when it is closed', async () => {
    const bench = new Bench();
    bench.submit(
      submission(1, { sampling: { maxTokens: 4000 } }),
      submission(2, { sampling: { maxTokens: 4000 } }),
    );
    await bench.until(() => bench.outputs.length === 5);
    bench.engine.abort([2]);
    await bench.engine.close();
    expect([1, 2].map((handle) => bench.answers.get(handle)?.end?.reason)).toEqual(['abort', 'abort']);
  });

  it('runs on real timers too', async () => {
    const engine = new SimulatedEngine({ simulation: parseSimulation({ stepUs: 1000 }) });
    const ended = new Promise<FinishedSequence | undefined>((resolve, reject) => {
      engine.listen({
        onStep: ({ finished }) => {
          if (finished.length > 0) resolve(finished[0]);
        },
        onFatal: reject,
      });
    });
    engine.submit([submission(1)]);
    expect((await ended)?.totalUs).toBeGreaterThan(0);
    await engine.close();
  });
});
