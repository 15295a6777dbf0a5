// What a decode step costs beside its arithmetic, in counts: they say the same on every machine.

import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { submission } from '../../test/support/submissions.ts';
import { openCheckpoint } from '../checkpoint/checkpoint.ts';
import { DEFAULT_TUNING } from '../engine/engine-tuning.ts';
import type { SamplingParams } from '../engine/sampling-params.ts';
import { InternVL } from '../model/internvl.ts';
import { loadWeights } from '../model/loader.ts';
import { partition } from '../model/partition.ts';
import { native } from '../native/index.ts';
import type { Native } from '../native/index.ts';
import { LeaderLoop } from './leader-loop.ts';
import type { FromWorker } from './messages.ts';

const checkpoint = openCheckpoint(
  fileURLToPath(new URL('../../test/fixtures/checkpoints/tiny', import.meta.url)),
);
const { numLayers, vocabSize } = checkpoint.config.llm;
const BLOCK_SIZE = 64;
const KV_BLOCKS = 8;
/** Steps are counted from here on: the prompt is computed, and every array has its size. */
const STEADY_FROM = 4;
const STEPS = 20; // fewer than a block holds, so that no block table grows meanwhile

/** Counts calls by name. */
function counted(functions: Native): { readonly native: Native; take(): Record<string, number> } {
  let counts: Record<string, number> = {};
  const wrapped = Object.fromEntries(
    Object.entries(functions as unknown as Record<string, (...args: unknown[]) => unknown>).map(
      ([name, run]) => [
        name,
        (...args: unknown[]) => {
          counts[name] = (counts[name] ?? 0) + 1;
          return run(...args);
        },
      ],
    ),
  );
  return {
    native: wrapped as unknown as Native,
    take: () => {
      const taken = counts;
      counts = {};
      return taken;
    },
  };
}

const CONSTRUCTORS = ['Int32Array', 'Uint32Array', 'Uint8Array', 'Float32Array', 'Float64Array'] as const;
const VIEWS = ['subarray', 'slice'] as const;
let typedArrays = 0;

/** Counts the typed arrays that are made, views included, until the returned function is called. */
function countTypedArrays(): () => void {
  const globals = globalThis as unknown as Record<string, new (...args: never[]) => object>;
  const methods = Object.getPrototypeOf(Int32Array.prototype) as Record<
    string,
    (...args: unknown[]) => unknown
  >;
  const constructors = CONSTRUCTORS.map((name) => [name, globals[name]!] as const);
  const views = VIEWS.map((name) => [name, methods[name]!] as const);
  for (const [name, constructor] of constructors) {
    globals[name] = new Proxy(constructor, {
      construct(target, args, newTarget) {
        typedArrays += 1;
        return Reflect.construct(target, args, newTarget) as object;
      },
    });
  }
  for (const [name, view] of views) {
    methods[name] = function (this: unknown, ...args: unknown[]) {
      typedArrays += 1;
      return view.apply(this, args);
    };
  }
  return () => {
    for (const [name, constructor] of constructors) globals[name] = constructor;
    for (const [name, view] of views) methods[name] = view;
  };
}

interface StepCounts {
  readonly calls: Record<string, number>;
  readonly typedArrays: number;
  readonly messages: readonly FromWorker['type'][];
}

/** The counts of the first step of a batch of sequences, and of each steady one. */
async function countSteps(
  batch: number,
  followed: boolean,
  how: Partial<SamplingParams> = {},
  maxBatchedTokens = DEFAULT_TUNING.maxBatchedTokens,
): Promise<{ readonly first: StepCounts; readonly steady: readonly StepCounts[] }> {
  const ops = counted(native());
  const model = new InternVL(
    ops.native,
    checkpoint.config,
    loadWeights(native(), checkpoint, partition(checkpoint.config, 0, 1, 'float32')),
    {
      rank: 0,
      worldSize: 1,
      dtype: 'float32',
      kvCache: { blocks: KV_BLOCKS, blockSize: BLOCK_SIZE, maxModelLength: 256 },
    },
  );
  const steps: StepCounts[] = [];
  let messages: FromWorker['type'][] = [];
  const loop = new LeaderLoop({
    info: { maxModelLength: 256, vocabSize, blockSize: BLOCK_SIZE, kvBlocks: KV_BLOCKS, maxSequences: batch },
    model,
    tuning: { ...DEFAULT_TUNING, imageBytes: 1, maxBatchedTokens },
    followed,
    native: native(),
    progress: () => undefined,
    post: (message) => {
      messages.push(message.type);
      if (message.type === 'output' && message.output.finished.length > 0) loop.stop();
      if (messages.at(-1) !== 'output') return;
      steps.push({ calls: ops.take(), typedArrays, messages });
      typedArrays = 0;
      messages = [];
    },
  });
  const sampling = { ...how, maxTokens: STEPS, ignoreEos: true };
  loop.submit(
    Array.from({ length: batch }, (_, index) =>
      submission(index + 1, { tokenIds: Uint32Array.of(1, 40 + index, 41, 42), sampling }),
    ),
  );
  await loop.run();
  model.close();
  expect(steps.length).toBeGreaterThanOrEqual(STEPS);
  return { first: steps[0]!, steady: steps.slice(STEADY_FROM, STEPS - 1) };
}

it('computes of a chunk that gives no token only keys and values in the last layer', async () => {
  const { first } = await countSteps(1, false, {}, 3);
  expect(first.calls).toMatchObject({ linear: 4 * numLayers - 3, pagedAttention: numLayers - 1 });
  expect(first.calls['chooseTokens']).toBeUndefined();
});

describe.each<[number, string, Partial<SamplingParams>]>([
  [1, 'greedy', {}],
  [4, 'greedy', {}],
  [4, 'drawn', { temperature: 1, topK: 50, topP: 0.9, seed: 3n }],
])('a decode step of %i %s sequences', (batch, _, how) => {
  it('makes 9 native calls a layer, 2 between layers and 21 around them', async () => {
    const layer = {
      linear: 4,
      ropeAndStoreKv: 1,
      pagedAttention: 1,
      addRmsNorm: 2,
      siluMul: 1,
    };
    const around = {
      broadcast: 1,
      indices: 8,
      mark: numLayers, // one for the step
      embedding: 1,
      allReduce: 1,
      gatherRows: 2,
      rmsNorm: 1,
      linear: 1,
      allGatherColumns: 1,
      chooseTokens: 1,
      startRead: 1,
      finishRead: 1,
      release: numLayers,
    };
    const expected: Record<string, number> = { ...around };
    for (const [name, count] of Object.entries(layer))
      expected[name] = (expected[name] ?? 0) + numLayers * count;
    for (const { calls } of (await countSteps(batch, false, how)).steady) expect(calls).toEqual(expected);
  });

  it('posts one message, and two more when other ranks follow', async () => {
    for (const { messages } of (await countSteps(batch, false, how)).steady)
      expect(messages).toEqual(['output']);
    for (const { messages } of (await countSteps(batch, true, how)).steady)
      expect(messages).toEqual(['plan', 'stepDone', 'output']);
  });

  it('makes no typed array', async () => {
    const stop = countTypedArrays();
    try {
      const { first, steady } = await countSteps(batch, false, how);
      expect(first.typedArrays).toBeGreaterThan(5); // they are counted
      expect(steady.map((step) => step.typedArrays)).toEqual(steady.map(() => 0));
    } finally {
      stop();
    }
  });
});
