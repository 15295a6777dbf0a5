// Models of other shapes than the published one against plain loops in float64: nothing may be tuned to particular sizes.

import { rmSync } from 'node:fs';
import { afterEach, describe, expect, it } from 'vitest';
import { parseModelConfig } from '../../../runtime/model/config.ts';
import { native } from '../../../runtime/native/index.ts';
import { loadTestModel, ModelSession, relativeError } from '../../support/model-session.ts';
import { PUBLISHED_40B } from '../../support/model-configs.ts';
import { PlainModel } from '../../support/plain-model.ts';
import { randomTensors, writeCheckpoint } from '../../support/random-checkpoint.ts';
import { RankGroup } from '../../support/rank-group.ts';
import { seededRandom } from '../../support/seeded-random.ts';
import { writeUint8Npy } from '../../support/npy-writer.ts';

interface Variant {
  readonly root?: Record<string, unknown>;
  readonly vision?: Record<string, unknown>;
  readonly llm?: Record<string, unknown>;
}

const IMAGE_TOKEN = 90;

function configOf({ root = {}, vision = {}, llm = {} }: Variant): unknown {
  return {
    ...PUBLISHED_40B,
    force_image_size: 56,
    ...root,
    vision_config: {
      ...PUBLISHED_40B.vision_config,
      hidden_size: 40,
      num_hidden_layers: 2,
      num_attention_heads: 5,
      intermediate_size: 48,
      ...vision,
    },
    llm_config: {
      ...PUBLISHED_40B.llm_config,
      hidden_size: 64,
      num_hidden_layers: 2,
      num_attention_heads: 16,
      num_key_value_heads: 8,
      intermediate_size: 32,
      vocab_size: 101,
      ...llm,
    },
  };
}

const VARIANTS: [string, Variant][] = [
  ['the base', {}],
  ['pixel shuffle v2', { root: { ps_version: 'v2' } }],
  ['tied embeddings', { llm: { tie_word_embeddings: true } }],
  ['224 pixels', { root: { force_image_size: 224 } }],
  ['28-pixel patches', { root: { force_image_size: 168 }, vision: { patch_size: 28 } }],
  ['no q/k norm', { vision: { qk_normalization: false } }],
  ['an earlier hidden state', { root: { select_layer: -2 } }],
  ['large epsilons', { vision: { layer_norm_eps: 0.3 }, llm: { rms_norm_eps: 0.2 } }],
  ['a small theta', { llm: { rope_theta: 100 } }],
  ['heads wider than the hidden size', { llm: { head_dim: 12 } }],
  ['one key/value head', { llm: { num_key_value_heads: 1 } }],
  ['no head groups', { llm: { num_key_value_heads: 16 } }],
  [
    'odd widths',
    {
      vision: { hidden_size: 21, num_attention_heads: 3, intermediate_size: 33 },
      llm: { hidden_size: 50, num_attention_heads: 5, num_key_value_heads: 5, intermediate_size: 37 },
    },
  ],
];

describe('a model of another shape', () => {
  const directories: string[] = [];
  afterEach(() => {
    for (const directory of directories.splice(0)) rmSync(directory, { recursive: true });
  });

  it.each(VARIANTS)('with %s agrees with plain float64 loops', (_, variant) => {
    const { config, directory, pixels, ids, image, plain } = make(variant);
    const projected: Float32Array[] = [];
    const model = loadTestModel(directory, {
      dtype: 'float32',
      taps: (tap, tensor) => void (tap === 'projected' && projected.push(native().readFloat32(tensor))),
    });
    model.encodeImage(1, pixels);
    expect(
      relativeError(projected[0] ?? new Float32Array(), Float32Array.from(plain.embeddings.flat())),
    ).toBeLessThan(1e-5);
    const session = new ModelSession(model);
    const sequence = session.start(ids, [image]);
    const rows = session.step([{ sequence, count: ids.length, logits: 'all' }]) ?? [];
    expect(rows[0]?.length).toBe(config.llm.vocabSize);
    const found = Float32Array.from(rows.flatMap((row) => [...row]));
    expect(relativeError(found, Float32Array.from(plain.logits.flat()))).toBeLessThan(1e-5);
    model.close();
  });

  it.each([
    [
      'widths that do not divide',
      4,
      { vision: { intermediate_size: 33 }, llm: { hidden_size: 50, head_dim: 6 } },
    ],
    ['fewer vision heads than ranks', 8, { vision: { hidden_size: 24, num_attention_heads: 3 } }],
    ['tied embeddings and v2', 2, { root: { ps_version: 'v2' }, llm: { tie_word_embeddings: true } }],
    ['fewer vocabulary entries than its share times ranks', 4, { llm: { vocab_size: 93 } }],
  ])('with %s agrees over %i processes', async (_, worldSize, variant) => {
    const { directory, pixels, ids, image, plain } = make(variant);
    const pixelsFile = `${directory}/pixels.npy`;
    writeUint8Npy(pixelsFile, [pixels.length], pixels);
    const group = await RankGroup.start({ checkpoint: directory, worldSize, dtype: 'float32' });
    try {
      const { logits } = await group.generate({ ids, pixels: pixelsFile, image, steps: 1, chunk: 5 });
      const reference = Float32Array.from(plain.logits.at(-1) ?? []);
      expect(relativeError(logits[0] ?? new Float32Array(), reference)).toBeLessThan(1e-5);
    } finally {
      group.stop();
    }
  });

  /** A checkpoint with random weights, a prompt with one picture, and what the plain model makes of them. */
  function make(variant: Variant) {
    const file = configOf(variant);
    const config = parseModelConfig(file);
    const tensors = randomTensors(file, 5);
    const directory = writeCheckpoint(file, tensors);
    directories.push(directory);
    const random = seededRandom(9);
    const pixels = Uint8Array.from({ length: 3 * config.vision.imageSize ** 2 }, () => 256 * random());
    const image = { image: 1, position: 4, tokens: config.imageTokens };
    const word = () => Math.floor(random() * IMAGE_TOKEN);
    const before = Array.from({ length: image.position }, word);
    const ids = [
      ...before,
      ...Array.from({ length: image.tokens }, () => IMAGE_TOKEN),
      word(),
      word(),
      word(),
    ];
    const model = new PlainModel(config, tensors);
    const embeddings = model.encodeImage(pixels);
    const plain = { embeddings, logits: model.logits(ids, IMAGE_TOKEN, embeddings) };
    return { config, directory, pixels, ids, image, plain };
  }
});
