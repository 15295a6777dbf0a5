import { describe, expect, it } from 'vitest';

import { FakeModel, expectedTokens } from '../../test/support/fake-model.ts';
import { picture, promptOf, submission } from '../../test/support/submissions.ts';
import { DuplicateHandle, EngineCore } from './engine-core.ts';
import { DEFAULT_TUNING } from './engine-tuning.ts';
import type { EngineCoreOptions } from './engine-core.ts';
import type { StepOutput } from './engine.ts';
import { ModelExecutor } from './executor.ts';
import type { Executor } from './executor.ts';

const INFO = { maxModelLength: 64, vocabSize: 13, blockSize: 4, kvBlocks: 32, maxSequences: 4 };

function modelExecutor(info = INFO): Executor {
  return new ModelExecutor({ ...info, model: new FakeModel(info) });
}

function coreOf(options: Partial<EngineCoreOptions> = {}, tuning: Partial<EngineCoreOptions['tuning']> = {}) {
  return new EngineCore({
    info: INFO,
    tuning: { ...DEFAULT_TUNING, ...tuning },
    executor: modelExecutor(options.info),
    now: () => 0,
    randomSeed: () => 0n,
    ...options,
  });
}

async function untilDone(core: EngineCore): Promise<StepOutput[]> {
  const outputs: StepOutput[] = [];
  while (core.hasWork) {
    const output = await core.step();
    if (output !== undefined) outputs.push(output);
  }
  return outputs;
}

function tokensOf(outputs: readonly StepOutput[], handle: number): number[] {
  return outputs.flatMap(({ handles, tokenIds }) => {
    const at = handles.indexOf(handle);
    return at === -1 ? [] : [tokenIds[at] ?? -1];
  });
}

describe('step', () => {
  it('packs the tokens of all sequences and reports each end once', async () => {
    const core = coreOf();
    const requests = [1, 2, 3].map((handle) => submission(handle, { sampling: { maxTokens: handle } }));
    core.submit(requests);
    const outputs = await untilDone(core);
    expect(outputs.map(({ step, handles, counts }) => [step, handles, counts])).toEqual([
      [1, [1, 2, 3], [1, 1, 1]],
      [2, [2, 3], [1, 1]],
      [3, [3], [1]],
    ]);
    expect(outputs.map(({ finished }) => finished.map(({ handle }) => handle))).toEqual([[1], [2], [3]]);
    for (const request of requests) {
      const expected = expectedTokens(request, request.sampling.maxTokens, INFO.vocabSize);
      expect(tokensOf(outputs, request.handle)).toEqual(expected);
    }
    expect(await core.step()).toBeUndefined();
  });

  it('reports a step that gave no token yet', async () => {
    const core = coreOf({}, { maxBatchedTokens: 4 });
    core.submit([submission(1, { tokenIds: promptOf(6) })]);
    expect(await core.step()).toMatchObject({
      handles: [],
      finished: [],
      load: { running: 1, waitingUncachedTokens: 2, kvBlocksUsed: 1, kvBlocks: 32 },
    });
  });

  it('measures by the given clock', async () => {
    let clock = 1000;
    let nativeUs = 500;
    const model = modelExecutor();
    const executor: Executor = {
      launch: (...step) => {
        clock += 10;
        nativeUs += 8;
        return model.launch(...step);
      },
    };
    const core = coreOf({ now: () => clock, nativeUs: () => nativeUs, executor });
    core.submit([submission(1, { sampling: { maxTokens: 3 } })]);
    clock += 5;
    expect(core.stalledUs).toBe(5);
    const [first, second, last] = await untilDone(core);
    // What goes by between steps counts as well.
    expect(first?.duration).toEqual({ us: 15, nativeUs: 8 });
    expect(second?.duration).toEqual({ us: 10, nativeUs: 8 });
    expect(first?.load.stepUs).toBe(15);
    core.submit([submission(2)]);
    expect(core.abortAll()?.duration).toBeUndefined();
    expect(last?.finished[0]).toMatchObject({ queueUs: 5, firstTokenUs: 15, totalUs: 35 });
    expect(core.stalledUs).toBe(0);
  });

  it('adds log-probabilities for those who asked', async () => {
    const core = coreOf();
    core.submit([submission(1, { logprobs: 2 }), submission(2)]);
    const output = await core.step();
    expect(output?.logprobs.map(({ handle }) => handle)).toEqual([1]);
    const [logprob] = output?.logprobs[0]?.tokens ?? [];
    expect(logprob?.tokenId).toBe(output?.tokenIds[0]);
    expect(logprob?.top[0]).toEqual({ tokenId: logprob?.tokenId, logprob: logprob?.logprob });
    expect(logprob?.top).toHaveLength(2);
  });

  it('draws the same tokens with the same seed in any company, others without a seed', async () => {
    const sampling = { temperature: 1.5, maxTokens: 12 };
    const answer = async (seed: bigint | undefined, drawn: bigint, company: number): Promise<number[]> => {
      const core = coreOf({ randomSeed: () => drawn }, { maxBatchedTokens: company === 0 ? 64 : 5 });
      const tokenIds = promptOf(9);
      core.submit([submission(0, { tokenIds, sampling: { ...sampling, seed } })]);
      for (let handle = 1; handle <= company; handle += 1) core.submit([submission(handle, { sampling })]);
      return tokensOf(await untilDone(core), 0);
    };
    const alone = await answer(5n, 0n, 0);
    expect(await answer(5n, 1n, 3)).toEqual(alone);
    expect(await answer(undefined, 5n, 2)).toEqual(alone);
    expect(await answer(6n, 0n, 0)).not.toEqual(alone);
  });

  it('ends only the sequence whose logits are no numbers', async () => {
    const model = new FakeModel(INFO);
    const forward = model.forward.bind(model);
    model.forward = (batch) => {
      const logits = forward(batch)();
      logits.row(0)[0] = NaN;
      return () => ({ ...logits, chosen: Int32Array.of(-1, logits.chosen?.[1] ?? -1) });
    };
    const core = coreOf({ executor: new ModelExecutor({ ...INFO, model }) });
    core.submit([submission(1), submission(2)]);
    const output = await core.step();
    expect(output?.finished).toMatchObject([{ handle: 1, reason: 'error' }]);
    expect(output?.finished[0]?.message).toMatch(/logit of token 0 is NaN/);
    expect(output?.handles).toEqual([2]);
  });

  it('ends only the sequence whose logits are no numbers when the next step is under way already', async () => {
    const model = new FakeModel({ ...INFO, runsAhead: true });
    const forward = model.forward.bind(model);
    model.forward = (batch) => {
      const wait = forward(batch);
      return () => {
        const logits = wait();
        return batch.step === 1 ? { ...logits, chosen: Int32Array.of(-1, logits.chosen?.[1] ?? -1) } : logits;
      };
    };
    const core = coreOf({ executor: new ModelExecutor({ ...INFO, model }) });
    const requests = [1, 2].map((handle) => submission(handle, { sampling: { temperature: 2, seed: 5n } }));
    core.submit(requests);
    const outputs = await untilDone(core);
    const ends = outputs.flatMap(({ finished }) => finished);
    expect(ends).toMatchObject([{ handle: 1, reason: 'error' }, { handle: 2, reason: 'length' }]); // prettier-ignore
    expect(ends[0]?.message).toMatch(/logits are not numbers, or none is finite, at position 5/);
    expect(tokensOf(outputs, 2)).toEqual(expectedTokens(requests[1]!, 4, INFO.vocabSize));
  });

  it.each<[string, Executor]>([
    ['its failure', { launch: () => () => Promise.reject(new Error('device lost')) }],
    ['too few rows', { launch: () => () => ({ logits: { numRows: 0, row: () => new Float32Array(0) } }) }],
  ])('throws when the executor gives %s', async (_, executor) => {
    const core = coreOf({ executor });
    core.submit([submission(1)]);
    await expect(core.step()).rejects.toThrow(/device lost|0 rows for 1 sequences/);
  });
});

describe('submit', () => {
  it.each<[string, Parameters<typeof submission>[1], RegExp]>([
    ['an empty prompt', { tokenIds: promptOf(0) }, /no tokens/],
    ['a prompt as long as the context', { tokenIds: promptOf(64) }, /exceeds the context of 64/],
    ['an unknown token', { tokenIds: Uint32Array.of(1, 13) }, /token 1 of the prompt is 13/],
    ['a picture past the prompt', { images: [picture('cat', 2, 5)] }, /outside the prompt of 4/],
  ])('ends %s with an error and serves the others', async (_, parts, message) => {
    const core = coreOf();
    core.submit([submission(1, parts), submission(2, { sampling: { maxTokens: 1 } })]);
    const [output] = await untilDone(core);
    expect(output?.finished).toMatchObject([{ handle: 1, reason: 'error' }, { handle: 2, reason: 'length' }]); // prettier-ignore
    expect(output?.finished[0]?.message).toMatch(message);
  });

  it('ends with an error what exceeds maxWaiting', async () => {
    const core = coreOf({}, { maxWaiting: 2 });
    core.submit([1, 2, 3].map((handle) => submission(handle)));
    const [output] = await untilDone(core);
    expect(output?.finished).toMatchObject([{ handle: 3, reason: 'error' }]);
    expect(output?.finished[0]?.message).toMatch(/2 sequences are waiting/);
  });

  it('refuses a live handle and then takes none of the batch', () => {
    const core = coreOf();
    core.submit([submission(1)]);
    expect(() => {
      core.submit([submission(2), submission(1)]);
    }).toThrow(DuplicateHandle);
    expect(() => {
      core.submit([submission(3), submission(3)]);
    }).toThrow(/handle 3/);
    expect(core.load().waiting).toBe(1);
  });
});

describe('abort', () => {
  it('is reported without a step, once, and ignores strangers', async () => {
    const core = coreOf();
    core.submit([submission(1)]);
    core.abort([1, 1, 99]);
    const output = await core.step();
    expect(output?.finished).toMatchObject([{ handle: 1, reason: 'abort', queueUs: 0, firstTokenUs: 0 }]);
    core.abort([1]);
    expect(await core.step()).toBeUndefined();
    core.submit([submission(1)]);
    expect(core.hasWork).toBe(true);
  });
});

describe('run', () => {
  it('sleeps when idle, wakes to work, lets messages in between steps, and ends what is left', async () => {
    let steps = 0;
    const model = modelExecutor();
    const executor: Executor = {
      launch: (...step) => {
        steps += 1;
        return model.launch(...step);
      },
    };
    const core = coreOf({ executor });
    const stop = new AbortController();
    const finished: [number, string][] = [];
    const run = core.run(stop.signal, (output) => {
      for (const { handle, reason } of output.finished) finished.push([handle, reason]);
      if (finished.length === 1 && !core.hasWork) {
        setImmediate(() => {
          core.submit([
            submission(2, { sampling: { maxTokens: 60 } }),
            submission(3, { sampling: { maxTokens: 60 } }),
          ]);
        });
      }
      // A message that arrives while the loop runs.
      if (output.handles.includes(3) && steps === 7) setImmediate(() => core.abort([3]));
      if (steps === 12) stop.abort();
    });
    core.submit([submission(1)]);
    await run;
    expect(finished).toEqual([[1, 'length'], [3, 'abort'], [2, 'abort']]); // prettier-ignore
    expect(core.hasWork).toBe(false);
    expect(steps).toBe(12);
  });

  it('ends at once when stopped while idle', async () => {
    const stop = new AbortController();
    const run = coreOf().run(stop.signal, () => undefined);
    stop.abort();
    await expect(run).resolves.toBeUndefined();
  });

  it('rejects with what a step throws', async () => {
    const core = coreOf({ executor: { launch: () => () => Promise.reject(new Error('device lost')) } });
    core.submit([submission(1)]);
    await expect(core.run(new AbortController().signal, () => undefined)).rejects.toThrow('device lost');
  });
});
