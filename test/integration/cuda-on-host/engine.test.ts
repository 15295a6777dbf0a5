// The engine over the CUDA backend, whose kernels an emulation runs: recorded decode steps and steps that run ahead give the published model's
// tokens. Text only: a picture takes the emulation half a minute.

import { afterEach, describe, expect, it } from 'vitest';
import { openCheckpoint } from '../../../runtime/checkpoint/checkpoint.ts';
import { DEFAULT_TUNING } from '../../../runtime/engine/engine-tuning.ts';
import type { StepOutput, Submission } from '../../../runtime/engine/engine.ts';
import { LeaderLoop } from '../../../runtime/engine-thread/leader-loop.ts';
import { InternVL } from '../../../runtime/model/internvl.ts';
import type { KvCacheDType } from '../../../runtime/model/kv-cache-size.ts';
import { loadWeights } from '../../../runtime/model/loader.ts';
import { partition } from '../../../runtime/model/partition.ts';
import { native } from '../../../runtime/native/index.ts';
import type { Native } from '../../../runtime/native/index.ts';
import { readGolden } from '../../support/golden.ts';
import { loadTestModel, ModelSession } from '../../support/model-session.ts';
import { submission } from '../../support/submissions.ts';

const golden = readGolden('tiny');
const { config } = openCheckpoint(golden.checkpoint);
const RUNS = golden.runs.filter(({ picture }) => picture === null);
const SIZES = { blockSize: 16, kvBlocks: 64, maxSequences: 4 };
const vocabSize = config.llm.vocabSize;

/** The device's operations, and how often some were called. */
function counted(): { readonly ops: Native; readonly calls: Map<string, number> } {
  const calls = new Map<string, number>();
  const ops = { ...native() } as Record<string, unknown> & Native;
  for (const name of ['launchGraph', 'linear'] as const) {
    const run = ops[name] as (...args: unknown[]) => unknown;
    (ops as Record<string, unknown>)[name] = (...args: unknown[]) => {
      calls.set(name, (calls.get(name) ?? 0) + 1);
      return run(...args);
    };
  }
  return { ops, calls };
}

describe('the engine on a CUDA device', () => {
  let model: InternVL | undefined;
  afterEach(() => {
    model?.close();
    expect(native().memoryBytes()).toMatchObject({ persistent: 0, arenaUsed: 0 });
  });

  /** Tokens by handle, and outputs. */
  async function answers(submissions: readonly Submission[], kvCacheDtype: KvCacheDType = 'auto') {
    const { ops, calls } = counted();
    const checkpoint = openCheckpoint(golden.checkpoint);
    model = new InternVL(ops, config, loadWeights(ops, checkpoint, partition(config, 0, 1, 'float32')), {
      rank: 0,
      worldSize: 1,
      dtype: 'float32',
      kvCacheDtype,
      kvCache: { blocks: SIZES.kvBlocks, blockSize: SIZES.blockSize, maxModelLength: 256 },
      runsAhead: { ...SIZES, maxBatchedTokens: 40 },
      decodeGraphs: SIZES,
    });
    const tokens = new Map<number, number[]>();
    let left = submissions.length;
    let planned = 0;
    /** Steps that were launched before the tokens of the one before were given out. */
    let ahead = 0;
    const take = ({ handles, tokenIds, finished }: StepOutput): void => {
      if (planned > 1) ahead += 1;
      planned -= 1;
      for (const [i, handle] of handles.entries())
        tokens.set(handle, [...(tokens.get(handle) ?? []), tokenIds[i] ?? -1]);
      left -= finished.length;
      if (left === 0) loop.stop();
    };
    const loop = new LeaderLoop({
      info: { ...SIZES, maxModelLength: 256, vocabSize },
      model,
      tuning: { ...DEFAULT_TUNING, imageBytes: 1 },
      followed: true,
      native: ops,
      progress: () => undefined,
      post: (message) => {
        if (message.type === 'plan') planned += 1;
        if (message.type === 'output') take(message.output);
      },
    });
    model.warmUp(() => performance.now());
    calls.clear();
    loop.submit(submissions);
    await loop.run();
    return { tokens, calls, ahead };
  }

  it('answers several prompts at once as the published model does, a step ahead and by launches of recorded steps', async () => {
    const submissions = RUNS.map(({ ids, newIds }, handle) =>
      submission(handle, {
        tokenIds: Uint32Array.from(ids),
        sampling: { maxTokens: newIds.length, ignoreEos: true },
      }),
    );
    expect(submissions.length).toBeGreaterThanOrEqual(3);
    const { tokens, calls, ahead } = await answers(submissions);
    for (const [handle, { name, newIds, comparableSteps }] of RUNS.entries())
      expect(tokens.get(handle)?.slice(0, comparableSteps), name).toEqual(newIds.slice(0, comparableSteps));
    const steps = Math.max(...RUNS.map(({ newIds }) => newIds.length));
    expect(calls.get('launchGraph')).toBeGreaterThanOrEqual(steps - 2);
    expect(ahead).toBeGreaterThanOrEqual(steps - 3);
  }, 300_000);

  it('reads from a cache in fp8 what each prompt alone has there, without recorded steps', async () => {
    const steps = 6;
    const submissions = RUNS.slice(0, 3).map(({ ids }, handle) =>
      submission(handle, {
        tokenIds: Uint32Array.from(ids),
        sampling: { maxTokens: steps, ignoreEos: true },
      }),
    );
    const { tokens } = await answers(submissions, 'fp8');
    model?.close();
    model = loadTestModel(golden.checkpoint, { dtype: 'float32', kvCacheDtype: 'fp8' });
    const session = new ModelSession(model);
    for (const [handle, { ids, name }] of RUNS.slice(0, 3).entries())
      expect(tokens.get(handle), name).toEqual(session.greedy(session.start(ids), steps).tokens);
  }, 300_000);

  it('draws the tokens that the host draws from the same logits, a step ahead', async () => {
    const [run] = RUNS;
    const count = 6;
    const drawing = (handle: number, cut: { readonly topK?: number; readonly topP?: number }) =>
      submission(handle, {
        tokenIds: Uint32Array.from(run?.ids ?? []),
        sampling: { maxTokens: count, temperature: 1.5, seed: BigInt(handle), ignoreEos: true, ...cut },
      });
    const drawn = [drawing(3, {}), drawing(4, { topK: 20, topP: 0.9 })];
    const greedy = submission(2, {
      tokenIds: Uint32Array.from(run?.ids ?? []),
      sampling: { maxTokens: count, ignoreEos: true },
    });
    const byModel = await answers([...drawn, greedy]);
    model?.close();
    // Those who want log-probabilities are for the host.
    const byHost = await answers([...drawn.map((each) => ({ ...each, logprobs: 0 })), greedy]);
    expect(byModel.tokens).toEqual(byHost.tokens);
    expect(byModel.tokens.get(2)).toEqual(run?.newIds.slice(0, count));
    expect(new Set(Array.from(byModel.tokens.values(), String)).size).toBe(3);
    expect(byModel.ahead).toBeGreaterThanOrEqual(count - 3);
    expect(byHost.ahead).toBe(0);
  }, 300_000);
});
