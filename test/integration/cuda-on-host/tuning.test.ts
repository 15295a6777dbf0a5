// After warming up, a device has tried out every shape of product that a chunk of a prompt can have.

import { describe, expect, it } from 'vitest';
import { modelShape } from '../../../bench/shapes.ts';
import { parseModelConfig } from '../../../runtime/model/config.ts';
import { dummyWeights } from '../../../runtime/model/dummy-weights.ts';
import { InternVL } from '../../../runtime/model/internvl.ts';
import { partition } from '../../../runtime/model/partition.ts';
import { promptBatch } from '../../../runtime/model/warm-up-batches.ts';
import { native } from '../../../runtime/native/index.ts';

const llm = {
  hidden_size: 32,
  intermediate_size: 48,
  num_hidden_layers: 2,
  num_attention_heads: 2,
  num_key_value_heads: 1,
  vocab_size: 65,
};
const vision = { hidden_size: 32, intermediate_size: 48, num_attention_heads: 2 };
const config = parseModelConfig({ ...modelShape(llm, vision), force_image_size: 56 });
const CHUNK = 150;
const SIZES = { blocks: 16, blockSize: 16, maxModelLength: 256 };
const ops = native();

function model(quantization: 'none' | 'int8'): InternVL {
  return new InternVL(ops, config, dummyWeights(ops, partition(config, 0, 1, 'bfloat16', quantization)), {
    rank: 0,
    worldSize: 1,
    dtype: 'bfloat16',
    kvCache: SIZES,
    runsAhead: { maxSequences: 2, maxBatchedTokens: CHUNK },
  });
}

it('knows where its ranges of rows end', () => {
  expect(ops.rowRanges(0)).toEqual([]);
  expect(ops.rowRanges(CHUNK)).toEqual([16, 32, 48, 64, 128, CHUNK]);
  expect(ops.rowRanges(8192).slice(-6)).toEqual([3840, 4096, 5120, 6144, 7168, 8192]);
});

describe.each(['none', 'int8'] as const)('a model of quantization %s', (quantization) => {
  it('meets no shape that was not tried', () => {
    const served = model(quantization);
    const before = ops.tune(false);
    const { shapes, chunkSizes, untried } = served.warmUp(() => 0);
    expect([chunkSizes, untried]).toEqual([6, 0]);
    expect(shapes).toBeGreaterThan(before + 4 * 5);
    ops.tune(true);
    for (let tokens = 1; tokens <= CHUNK; tokens += 1)
      served.forward(promptBatch(tokens, SIZES.blockSize))?.();
    expect(ops.tune(false)).toBe(shapes);
    served.close();
  }, 120_000);

  it('leaves the smaller sizes when its time is over, whole chunks first', () => {
    const served = model(quantization);
    let clock = 0;
    // Each look at it takes 12 s: the chunks have 30.
    expect(served.warmUp(() => (clock += 12_000))).toMatchObject({ chunkSizes: 6, untried: 4 });
    served.close();
  }, 120_000);
});
