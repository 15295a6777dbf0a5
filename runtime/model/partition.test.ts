import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { config40B, smallConfig } from '../../test/support/model-configs.ts';
import { partition, PartitionError, supportedWorldSizes, validate } from './partition.ts';
import { elements, paddingBytes, planBytes, type TensorCopy, type TensorPlan } from './tensor-plan.ts';

const SIZES = [1, 2, 4, 8];

/** Configurations that can be split into 1, 2, 4 and 8 ranks, most other sizes odd. */
const configs = fc
  .record({
    visionHeads: fc.integer({ min: 1, max: 9 }),
    visionHeadDim: fc.integer({ min: 1, max: 6 }),
    visionLayers: fc.integer({ min: 1, max: 2 }),
    visionIntermediate: fc.integer({ min: 1, max: 40 }),
    qkNormalization: fc.boolean(),
    kvHeads: fc.constantFrom(8, 16),
    group: fc.integer({ min: 1, max: 3 }),
    headDim: fc.constantFrom(2, 4, 6),
    hiddenSize: fc.integer({ min: 1, max: 50 }),
    intermediate: fc.integer({ min: 1, max: 6 }).map((n) => 8 * n),
    vocab: fc.integer({ min: 1, max: 120 }),
    tied: fc.boolean(),
  })
  .map((s) =>
    smallConfig(
      {
        hidden_size: s.visionHeads * s.visionHeadDim,
        num_attention_heads: s.visionHeads,
        num_hidden_layers: s.visionLayers,
        intermediate_size: s.visionIntermediate,
        qk_normalization: s.qkNormalization,
      },
      {
        hidden_size: s.hiddenSize,
        num_attention_heads: s.kvHeads * s.group,
        num_key_value_heads: s.kvHeads,
        head_dim: s.headDim,
        num_hidden_layers: 1,
        intermediate_size: s.intermediate,
        vocab_size: s.vocab,
        tie_word_embeddings: s.tied,
      },
    ),
  );

/** How often each entry of each source tensor is copied by the given ranks. */
function coverage(plans: readonly (readonly TensorPlan[])[]): Map<string, Uint8Array> {
  const counts = new Map<string, Uint8Array>();
  for (const copy of plans.flat().flatMap((plan) => plan.copies)) {
    const seen = counts.get(copy.source) ?? new Uint8Array(elements(copy.sourceShape));
    counts.set(copy.source, seen);
    for (let row = copy.srcRow; row < copy.srcRow + copy.rows; row++)
      for (let col = copy.srcCol; col < copy.srcCol + copy.cols; col++) {
        const at = row * copy.sourceColumns + col;
        seen[at] = (seen[at] ?? 0) + 1;
      }
  }
  return counts;
}

const REPLICATED =
  /patch_embedding|class_embedding|position_embedding|norm|ls[12]$|mlp1\.0|mlp1\.3\.bias|proj\.bias|fc2\.bias/;
const SPLIT_NORMS = /[qk]_norm/;

describe('partition', () => {
  it('puts each entry of a split tensor on one rank and of a replicated one on every rank', () => {
    fc.assert(
      fc.property(configs, fc.constantFrom(...SIZES), (config, worldSize) => {
        const ranks = Array.from({ length: worldSize }, (_, rank) =>
          partition(config, rank, worldSize, 'bfloat16'),
        );
        for (const [source, counts] of coverage(ranks)) {
          const wanted = REPLICATED.test(source) && !SPLIT_NORMS.test(source) ? worldSize : 1;
          const wrong = counts.findIndex((count) => count !== wanted);
          expect([source, wrong, counts[wrong]]).toEqual([source, -1, undefined]);
        }
      }),
      { numRuns: 60, seed: 7 },
    );
  });

  it('keeps copies inside source and local tensor, and no two copies overlap', () => {
    fc.assert(
      fc.property(configs, fc.constantFrom(...SIZES), (config, worldSize) => {
        for (let rank = 0; rank < worldSize; rank++)
          for (const plan of partition(config, rank, worldSize, 'float32')) expectFits(plan);
      }),
      { numRuns: 60, seed: 11 },
    );
  });

  it('gives every rank the same names and shapes, so that collectives agree', () => {
    fc.assert(
      fc.property(configs, fc.constantFrom(...SIZES), (config, worldSize) => {
        const shapes = Array.from({ length: worldSize }, (_, rank) =>
          partition(config, rank, worldSize, 'bfloat16').map(
            ({ name, shape }) => `${name} ${shape.join('x')}`,
          ),
        );
        for (const other of shapes) expect(other).toEqual(shapes[0]);
        expect(new Set(shapes[0]).size).toBe(shapes[0]?.length);
      }),
      { numRuns: 30, seed: 13 },
    );
  });

  it('adds up to the unsplit bytes once padding and replicas are taken away', () => {
    fc.assert(
      fc.property(configs, fc.constantFrom(...SIZES), (config, worldSize) => {
        const whole = partition(config, 0, 1, 'bfloat16').reduce((sum, plan) => sum + planBytes(plan), 0);
        let held = 0;
        let padding = 0;
        let copies = 0;
        for (let rank = 0; rank < worldSize; rank++)
          for (const plan of partition(config, rank, worldSize, 'bfloat16')) {
            held += planBytes(plan);
            padding += paddingBytes(plan);
            const source = plan.copies[0]?.source ?? '';
            if (rank > 0 && REPLICATED.test(source) && !SPLIT_NORMS.test(source)) copies += planBytes(plan);
          }
        expect(held - padding - copies).toBe(whole);
      }),
      { numRuns: 30, seed: 17 },
    );
  });

  it.each([
    [1, 25 * 128, 64007],
    [2, 13 * 128, 32004],
    [4, 7 * 128, 16002],
    [8, 4 * 128, 8001],
  ])('pads 25 vision heads and a prime vocabulary at size %i', (worldSize, width, vocab) => {
    const plans = new Map(
      partition(config40B(), worldSize - 1, worldSize, 'bfloat16').map((plan) => [plan.name, plan]),
    );
    expect(plans.get('vision.layers.44.qkv')?.shape).toEqual([3 * width, 3200]);
    expect(plans.get('vision.layers.0.proj.weight')?.shape).toEqual([3200, width]);
    expect(plans.get('vision.layers.0.qNorm')?.shape).toEqual([width]);
    expect(plans.get('language.embedTokens')?.shape).toEqual([vocab, 7168]);
    expect(plans.get('language.lmHead')?.shape).toEqual([vocab, 7168]);
    expect(plans.get('language.layers.59.qkvProj')?.shape).toEqual([(72 * 128) / worldSize, 7168]);
    expect(plans.get('language.layers.0.gateUpProj')?.shape).toEqual([40960 / worldSize, 7168]);
  });

  it('puts q, k and v of a vision head at the same place of their thirds', () => {
    const plan = partition(config40B(), 6, 8, 'bfloat16').find(({ name }) => name === 'vision.layers.0.qkv');
    const rows = plan?.copies.map(({ srcRow, rows, dstRow }) => [srcRow, rows, dstRow]);
    // rank 6 of 8 has one real head, the 25th, and three of padding
    expect(rows).toEqual([
      [24 * 128, 128, 0],
      [3200 + 24 * 128, 128, 512],
      [6400 + 24 * 128, 128, 1024],
    ]);
    const last = partition(config40B(), 7, 8, 'bfloat16').find(({ name }) => name === 'vision.layers.0.qkv');
    expect(last).toMatchObject({ shape: [1536, 3200], copies: [] });
  });

  it('reads no output head when the embeddings are tied', () => {
    const plans = partition(smallConfig({}, { tie_word_embeddings: true }), 0, 2, 'float32');
    expect(plans.some(({ name }) => name === 'language.lmHead')).toBe(false);
    expect(plans.flatMap(({ copies }) => copies).some(({ source }) => source.includes('lm_head'))).toBe(
      false,
    );
  });

  it('reads only the vision layers that the selected hidden state needs', () => {
    const names = partition(smallConfig({}, {}, { select_layer: -2 }), 0, 1, 'float32').map(
      ({ name }) => name,
    );
    expect(names).toContain('vision.layers.0.qkv');
    expect(names).not.toContain('vision.layers.1.qkv');
  });
});

describe('validate', () => {
  it.each([
    [3, /size 3 does not divide the language model's 8 key\/value heads .* split into 1, 2, 4, 8$/],
    [16, /size 16 does not divide/],
    [0, /size 0 is not a positive whole number/],
    [1.5, /size 1.5 is not a positive whole number/],
  ])('refuses size %d and says what works', (worldSize, message) => {
    expect(() => validate(config40B(), worldSize)).toThrow(PartitionError);
    expect(() => validate(config40B(), worldSize)).toThrow(message);
  });

  it('names the intermediate size when that does not divide', () => {
    expect(() => validate(smallConfig({}, { intermediate_size: 12 }), 8)).toThrow(/12 intermediate features/);
    expect(supportedWorldSizes(smallConfig({}, { intermediate_size: 12 }))).toEqual([1, 2, 4]);
  });

  it('refuses a rank outside the group', () => {
    expect(() => partition(smallConfig(), 2, 2, 'float32')).toThrow(/rank 2 does not lie in 0..1/);
  });
});

function expectFits(plan: TensorPlan): void {
  const cols = plan.shape.at(-1) ?? 0;
  const written = new Uint8Array(elements(plan.shape));
  for (const copy of plan.copies) {
    expect(insideSource(copy)).toBe(true);
    for (let row = copy.dstRow; row < copy.dstRow + copy.rows; row++)
      for (let col = copy.dstCol; col < copy.dstCol + copy.cols; col++) {
        const at = row * cols + col;
        if (col >= cols || at >= written.length || written[at] !== 0)
          throw new Error(`${plan.name}: [${row}, ${col}] is outside or written twice`);
        written[at] = 1;
      }
  }
}

function insideSource(copy: TensorCopy): boolean {
  const sourceRows = elements(copy.sourceShape) / copy.sourceColumns;
  return (
    copy.rows > 0 &&
    copy.cols > 0 &&
    copy.srcRow + copy.rows <= sourceRows &&
    copy.srcCol + copy.cols <= copy.sourceColumns
  );
}

describe.each([
  ['int8', 'int8'],
  ['fp8', 'float8'],
] as const)('%s weights', (quantization, stored) => {
  const plans = (worldSize: number) => partition(config40B(), 0, worldSize, 'bfloat16', quantization);

  it('are those of the decoder and no others', () => {
    const names = new Set(
      plans(1).flatMap(({ name, dtype }) => (dtype === stored ? [name.replace(/\d+/, 'i')] : [])),
    );
    expect([...names].toSorted()).toEqual(
      ['downProj', 'gateUpProj', 'oProj', 'qkvProj'].map((layer) => `language.layers.i.${layer}`),
    );
  });

  it.each(SIZES)('take a byte each and four for the scale of a row, at %i ranks', (worldSize) => {
    const whole = partition(config40B(), 0, worldSize, 'bfloat16');
    for (const [i, plan] of plans(worldSize).entries()) {
      const plain = planBytes(whole[i]!);
      const [rows = 0] = plan.shape;
      expect(planBytes(plan)).toBe(plan.dtype === stored ? plain / 2 + 4 * rows : plain);
      // A scale belongs to a whole row.
      if (plan.dtype === stored) for (const { cols } of plan.copies) expect(cols).toBe(plan.shape[1]);
    }
  });
});
