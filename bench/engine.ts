// Forward passes of one rank, without scheduler or sockets: decode and prefill over a paged cache, and the encoding of one picture.
import { availableParallelism } from 'node:os';
import type { Batch } from '../runtime/engine/batch.ts';
import { parseModelConfig } from '../runtime/model/config.ts';
import { InternVL } from '../runtime/model/internvl.ts';
import { partition, type Quantization } from '../runtime/model/partition.ts';
import { planBytes, type WeightDType } from '../runtime/model/tensor-plan.ts';
import { native } from '../runtime/native/index.ts';
import { modelShape } from './model-shape.ts';
import { randomWeights } from './random-weights.ts';
import type { Row } from './results.ts';

const BLOCK_SIZE = 16;
const CONTEXT = 512;

/** A language model of 0.3 B parameters and one full-width layer of InternViT-6B (3200 wide, 25 heads): what a small machine can hold and still reads from memory. */
const SHAPE = modelShape(
  {
    hidden_size: 1024,
    intermediate_size: 4096,
    num_hidden_layers: 16,
    num_attention_heads: 16,
    num_key_value_heads: 2,
    vocab_size: 8009,
  },
  { hidden_size: 3200, intermediate_size: 12800, num_attention_heads: 25 },
);

/** S sequences that have `computed` tokens each and now compute `count` more. */
function batch(sequences: number, computed: number, count: number): Batch {
  const tokens = sequences * count;
  const maxBlocks = Math.ceil((computed + count) / BLOCK_SIZE);
  const slotOf = (sequence: number, position: number) => sequence * maxBlocks * BLOCK_SIZE + position;
  const perToken = (f: (sequence: number, index: number) => number) =>
    Int32Array.from({ length: tokens }, (_, t) => f(Math.floor(t / count), t % count));
  return {
    step: 0,
    numTokens: tokens,
    numSequences: sequences,
    inputIds: perToken((s, i) => 100 + ((s * 31 + i) % 5000)),
    positions: perToken((_, i) => computed + i),
    slots: perToken((s, i) => slotOf(s, computed + i)),
    queryStart: Int32Array.from({ length: sequences + 1 }, (_, s) => s * count),
    contextLengths: new Int32Array(sequences).fill(computed + count),
    blockTables: Int32Array.from({ length: sequences * maxBlocks }, (_, i) => i),
    maxBlocks,
    logitRows: Int32Array.from({ length: sequences }, (_, s) => (s + 1) * count - 1),
    imageRows: [],
  };
}

/** Median seconds of `run`, after one warm-up. */
function medianSeconds(rounds: number, run: () => void): number {
  run();
  const times = Array.from({ length: rounds }, () => {
    const begin = performance.now();
    run();
    return (performance.now() - begin) / 1000;
  });
  return times.toSorted((a, b) => a - b)[Math.floor(rounds / 2)] as number;
}

/** Measures one dtype on all cores. `bandwidth` is the machine's read bandwidth in bytes per second. */
export function benchEngine(dtype: WeightDType, quantization: Quantization, bandwidth: number): Row[] {
  const ops = native();
  ops.setThreads(availableParallelism());
  const config = parseModelConfig(SHAPE);
  const plans = partition(config, 0, 1, dtype, quantization);
  const weights = randomWeights(ops, plans);
  const model = new InternVL(ops, config, weights, {
    rank: 0,
    worldSize: 1,
    dtype,
    kvCache: { blocks: 1200, blockSize: BLOCK_SIZE, maxModelLength: 4096 },
  });
  const rows: Row[] = [];
  const shape = `0.3B Llama, ${dtype}${quantization === 'none' ? '' : `, ${quantization} weights`}`;

  // What a decode step must read: every language weight but the embedding table, and the keys and values of the context.
  const weightBytes = plans
    .filter(({ name }) => name.startsWith('language.') && name !== 'language.embedTokens')
    .reduce((sum, plan) => sum + planBytes(plan), 0);
  const { numLayers, numKvHeads, headDim } = config.llm;
  const kvBytes = 2 * numLayers * numKvHeads * headDim * CONTEXT * (dtype === 'float32' ? 4 : 2);
  for (const sequences of [1, 8, 32]) {
    const step = batch(sequences, CONTEXT, 1);
    const seconds = medianSeconds(9, () => void model.forward(step));
    const bytes = weightBytes + sequences * kvBytes;
    rows.push({
      metric: `decode, batch ${sequences}`,
      shape,
      unit: 'tokens/s',
      value: sequences / seconds,
      limit: sequences / (bytes / bandwidth),
      limitOf: 'read bandwidth',
    });
  }
  const prompt = batch(1, 0, 512);
  const prefill = medianSeconds(5, () => void model.forward(prompt));
  rows.push({ metric: 'prefill, 512 tokens', shape, unit: 'tokens/s', value: 512 / prefill });

  if (quantization === 'none') rows.push(encodeRow(model, dtype));
  model.close();
  return rows;
}

/** One picture through the vision part, which is never quantized. */
function encodeRow(model: InternVL, dtype: WeightDType): Row {
  const pixels = new Uint8Array(448 * 448 * 3).map((_, i) => (i * 31) % 251);
  const encode = medianSeconds(3, () => {
    model.encodeImage(0, pixels);
    model.freeImage(0);
  });
  return {
    metric: 'image encode, 1 layer of InternViT-6B + projector',
    shape: `3200 wide, 25 heads, ${dtype}`,
    unit: 'ms',
    value: encode * 1000,
  };
}
