// Decode steps through the whole engine loop (schedule, publish, forward pass, sample, post): how much of a step is not spent inside native
// operations. Both parts slow down alike on a busy machine, so the share holds where the times do not.
import { availableParallelism } from 'node:os';
import { MessageChannel } from 'node:worker_threads';
import { DEFAULT_TUNING } from '../runtime/engine/engine-tuning.ts';
import type { StepOutput, Submission } from '../runtime/engine/engine.ts';
import { LeaderLoop } from '../runtime/engine-thread/leader-loop.ts';
import type { FromWorker } from '../runtime/engine-thread/messages.ts';
import { parseModelConfig } from '../runtime/model/config.ts';
import { InternVL } from '../runtime/model/internvl.ts';
import { partition } from '../runtime/model/partition.ts';
import { native } from '../runtime/native/index.ts';
import { dummyWeights } from '../runtime/model/dummy-weights.ts';
import type { Row } from './results.ts';
import { MEDIUM_MODEL } from './shapes.ts';

export const BLOCK_SIZE = 16;
const PROMPT = 64;
const WARM_UP = 8;
const STEPS = 48;

export type Sampling = Pick<Submission['sampling'], 'temperature' | 'topP'>;

const SAMPLING: readonly (readonly [name: string, Sampling, batches: readonly number[]])[] = [
  ['greedy', { temperature: 0, topP: 1 }, [1, 16]],
  ['temperature 1', { temperature: 1, topP: 1 }, [1, 16]],
  ['temperature 1, top-p 0.9', { temperature: 1, topP: 0.9 }, [16]],
];

/** Measures bfloat16 on all cores. */
export async function benchEngineLoop(): Promise<Row[]> {
  const ops = native();
  ops.setThreads(availableParallelism());
  const config = parseModelConfig(MEDIUM_MODEL);
  const kvBlocks = loopBlocks(16);
  const model = new InternVL(ops, config, dummyWeights(ops, partition(config, 0, 1, 'bfloat16')), {
    rank: 0,
    worldSize: 1,
    dtype: 'bfloat16',
    kvCache: { blocks: kvBlocks, blockSize: BLOCK_SIZE, maxModelLength: 4096 },
  });
  const rows: Row[] = [];
  for (const [sampling, params, batches] of SAMPLING)
    for (const batch of batches)
      rows.push(await loopRow(model, kvBlocks, batch, params, `1.1B Llama, bfloat16, ${sampling}`));
  model.close();
  return rows;
}

/** Blocks of BLOCK_SIZE tokens that the sequences of a measured batch take. */
export function loopBlocks(batch: number): number {
  return batch * Math.ceil((PROMPT + WARM_UP + STEPS + 1) / BLOCK_SIZE);
}

/** The median step that decodes `batch` sequences: what of it is not spent inside native operations, which is where a device is waited for too. */
export async function loopRow(
  model: InternVL,
  kvBlocks: number,
  batch: number,
  sampling: Sampling,
  shape: string,
): Promise<Row> {
  const steps = await decodeSteps(model, kvBlocks, batch, sampling);
  const median = (of: (step: Step) => number) =>
    steps.map(of).toSorted((a, b) => a - b)[steps.length >> 1] as number;
  return {
    metric: `engine loop outside native operations, batch ${batch}`,
    shape,
    unit: 'µs/step',
    value: median(({ us, nativeUs }) => us - nativeUs),
    limit: median(({ us }) => us),
    limitOf: 'a step',
  };
}

type Step = NonNullable<StepOutput['duration']>;

/** The durations of steps that decode `batch` sequences each, posted to a port that nobody reads here: reading is the main thread's work. */
async function decodeSteps(
  model: InternVL,
  kvBlocks: number,
  batch: number,
  sampling: Sampling,
): Promise<Step[]> {
  const { port1, port2 } = new MessageChannel();
  const steps: Step[] = [];
  const loop = new LeaderLoop({
    info: {
      maxModelLength: 4096,
      vocabSize: model.vocabSize,
      blockSize: BLOCK_SIZE,
      kvBlocks,
      maxSequences: batch,
    },
    model,
    tuning: { ...DEFAULT_TUNING, imageBytes: 1 },
    followed: false,
    native: native(),
    progress: () => undefined,
    post: (message: FromWorker, transfer = []) => {
      port1.postMessage(message, transfer);
      if (message.type !== 'output') return;
      const { handles, duration, finished } = message.output;
      if (duration !== undefined && handles.length === batch) steps.push(duration);
      if (finished.length > 0) loop.stop();
    },
  });
  loop.submit(Array.from({ length: batch }, (_, handle) => submission(handle, sampling)));
  await loop.run();
  port1.close();
  port2.close();
  return steps.slice(WARM_UP);
}

function submission(handle: number, sampling: Sampling): Submission {
  return {
    handle,
    tokenIds: Uint32Array.from({ length: PROMPT }, (_, i) => 100 + ((handle * 31 + i) % 5000)),
    images: [],
    sampling: {
      ...sampling,
      topK: 0,
      repetitionPenalty: 1,
      maxTokens: WARM_UP + STEPS,
      minTokens: 0,
      seed: BigInt(handle),
      stopTokenIds: [7],
      ignoreEos: true,
    },
    logprobs: undefined,
    priority: 0,
    cacheSalt: '',
  };
}
