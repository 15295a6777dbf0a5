import { describe, expect, it } from 'vitest';

import type { Batch, Logits, Model } from './batch.ts';
import { ModelExecutor, runStep } from './executor.ts';
import { RankState } from './rank-state.ts';
import { StepInputs } from './step-inputs.ts';
import type { StepPlan } from './step-plan.ts';

const OPTIONS = { blockSize: 4, kvBlocks: 4 };

const PLAN: StepPlan = {
  step: 0,
  sequences: [{ handle: 1, numComputed: 0, numTokens: 3, newBlocks: [2], wantsLogits: true }],
  finished: [],
  preempted: [],
  freeImages: [],
  encodeImages: [0],
  imageRows: [{ image: 0, sourceRow: 0, targetRow: 1, count: 2 }],
};

const NEXT: StepPlan = {
  ...PLAN,
  step: 1,
  sequences: [{ handle: 1, numComputed: 3, numTokens: 1, newBlocks: [], wantsLogits: true }],
  freeImages: [0],
  encodeImages: [1],
  imageRows: [{ image: 1, sourceRow: 0, targetRow: 0, count: 1 }],
};

const LOGITS: Logits = { numRows: 1, row: () => Float32Array.of(1, 2) };

function inputsOf(...ids: readonly number[]): StepInputs {
  const inputs = new StepInputs(ids.length, 1);
  inputs.ids.set(ids);
  inputs.draws.fill(0.5);
  return inputs;
}

const INPUTS = inputsOf(5, 6, 7);
const PIXELS = new Map([[0, Uint8Array.of(1)]]);

/** Writes down what it is asked for. */
class RecordingModel implements Model {
  readonly vocabSize = 2;
  readonly runsAhead = false;
  readonly calls: string[];
  readonly batches: Batch[] = [];

  constructor(calls: string[] = []) {
    this.calls = calls;
  }

  encodeImage(image: number, pixels: Uint8Array | undefined): void {
    this.calls.push(`encode ${String(image)} ${pixels === undefined ? 'without' : 'with'} pixels`);
  }

  freeImage(image: number): void {
    this.calls.push(`free ${String(image)}`);
  }

  forward(batch: Batch): (() => Logits) | undefined {
    this.calls.push(`forward ${String(batch.step)}`);
    this.batches.push(batch);
    return () => LOGITS;
  }

  close(): void {
    this.calls.push('close');
  }
}

describe('ModelExecutor', () => {
  it('publishes, frees, encodes, computes, verifies, in this order', async () => {
    const calls: string[] = [];
    const model = new RecordingModel(calls);
    const executor = new ModelExecutor({
      ...OPTIONS,
      model,
      publish: ({ step }) => calls.push(`publish ${String(step)}`),
      verify: (step, planHash) => {
        calls.push(`verify ${String(step)} ${String(planHash > 0)}`);
      },
    });
    expect(await executor.launch(PLAN, INPUTS, PIXELS)()).toEqual({ logits: LOGITS });
    await executor.launch(NEXT, inputsOf(5), new Map([[1, Uint8Array.of(1)]]))();
    expect(calls).toEqual([
      'publish 0',
      'encode 0 with pixels',
      'forward 0',
      'verify 0 true',
      'publish 1',
      'free 0',
      'encode 1 with pixels',
      'forward 1',
      'verify 1 true',
    ]);
    expect(Array.from(model.batches[0]?.inputs.ids ?? [])).toEqual([5, 6, 7]);
    expect(Array.from(model.batches[0]?.inputs.draws ?? [])).toEqual([0.5, 0.5, 0.5, 0.5]);
  });

  it('fails when a rank differs, or the model gives nothing', async () => {
    const verify = (): Promise<void> => Promise.reject(new Error('rank 1 differs'));
    const executor = new ModelExecutor({ ...OPTIONS, model: new RecordingModel(), verify });
    await expect(executor.launch(PLAN, INPUTS, PIXELS)()).rejects.toThrow('rank 1 differs');
    const silent = new RecordingModel();
    silent.forward = () => undefined;
    const broken = new ModelExecutor({ ...OPTIONS, model: silent });
    await expect(broken.launch(PLAN, INPUTS, PIXELS)()).rejects.toThrow(/no logits on rank 0/);
  });
});

describe('runStep without inputs', () => {
  it('does on another rank what rank 0 does, the ids and pixels left to the broadcast', () => {
    const [state, leader] = [new RankState(OPTIONS), new RankState(OPTIONS)];
    const model = new RecordingModel();
    runStep(state, model, PLAN, undefined);
    leader.apply(PLAN);
    expect(model.calls).toEqual(['encode 0 without pixels', 'forward 0']);
    expect(Array.from(model.batches[0]?.inputs.ids ?? [])).toEqual([0, 0, 0]);
    expect(state.planHash).toBe(leader.planHash);
  });
});
