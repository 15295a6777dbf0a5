import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { ConfigError, parseModelConfig } from './config.ts';

type Changes = { root?: object; vision?: object; llm?: object };

function publishedConfig(checkpoint = 'tiny'): Record<string, object> {
  const file = new URL(`../../test/fixtures/checkpoints/${checkpoint}/config.json`, import.meta.url);
  return JSON.parse(readFileSync(file, 'utf8')) as Record<string, object>;
}

function changed({ root, vision, llm }: Changes): object {
  const config = publishedConfig();
  return {
    ...config,
    ...root,
    vision_config: { ...config['vision_config'], ...vision },
    llm_config: { ...config['llm_config'], ...llm },
  };
}

describe('parseModelConfig', () => {
  it('reads the published nested file', () => {
    expect(parseModelConfig(publishedConfig())).toEqual({
      vision: {
        hiddenSize: 80,
        numLayers: 3,
        layersToRun: 3,
        numHeads: 5,
        headDim: 16,
        intermediateSize: 320,
        patchSize: 14,
        imageSize: 448,
        layerNormEps: 1e-6,
        qkNormalization: true,
        qkvBias: false,
        normType: 'rms_norm',
      },
      llm: {
        hiddenSize: 112,
        numLayers: 3,
        numHeads: 14,
        numKvHeads: 2,
        headDim: 8,
        intermediateSize: 160,
        vocabSize: 1009,
        rmsNormEps: 1e-5,
        ropeTheta: 5e6,
        maxPositionEmbeddings: 4096,
        tieWordEmbeddings: false,
        attentionBias: false,
        bosTokenId: 1,
        eosTokenIds: [7],
      },
      selectLayer: -1,
      downsampleRatio: 0.5,
      pixelShuffleVersion: 1,
      imageTokens: 256,
      template: 'Hermes-2',
      systemMessage: 'Answer the questions.',
      dtype: 'bfloat16',
    });
    expect(parseModelConfig(publishedConfig('small-tp')).llm.numKvHeads).toBe(8);
  });

  it('reads the 40B with only the keys that differ from the class defaults', () => {
    const config = parseModelConfig({
      force_image_size: 448,
      vision_config: { num_hidden_layers: 45, image_size: 448 },
      llm_config: {
        hidden_size: 7168,
        intermediate_size: 20480,
        num_hidden_layers: 60,
        num_attention_heads: 56,
        num_key_value_heads: 8,
        vocab_size: 64007,
        max_position_embeddings: 4096,
        rms_norm_eps: 1e-5,
        rope_theta: 5000000.0,
        eos_token_id: 7,
      },
    });
    expect(config.vision).toMatchObject({ headDim: 128, layersToRun: 45, qkNormalization: true });
    expect(config.llm).toMatchObject({ headDim: 128, tieWordEmbeddings: false });
    expect(config.imageTokens).toBe(256);
  });

  it.each<[string, Changes, (config: ReturnType<typeof parseModelConfig>) => unknown, unknown]>([
    ['ps_version v2', { root: { ps_version: 'v2' } }, (c) => c.pixelShuffleVersion, 2],
    [
      'force_image_size over image_size',
      { root: { force_image_size: 224 } },
      (c) => [c.vision.imageSize, c.imageTokens],
      [224, 64],
    ],
    [
      'image_size without force_image_size',
      { root: { force_image_size: null }, vision: { image_size: 224 } },
      (c) => c.vision.imageSize,
      224,
    ],
    [
      'tie_word_embeddings from llm_config',
      { root: { tie_word_embeddings: true } },
      (c) => c.llm.tieWordEmbeddings,
      false,
    ],
    ['tied embeddings', { llm: { tie_word_embeddings: true } }, (c) => c.llm.tieWordEmbeddings, true],
    ['absent key/value heads', { llm: { num_key_value_heads: null } }, (c) => c.llm.numKvHeads, 14],
    ['eos list', { llm: { eos_token_id: [7, 2, 7] } }, (c) => c.llm.eosTokenIds, [7, 2]],
    ['select_layer -2', { root: { select_layer: -2 } }, (c) => c.vision.layersToRun, 2],
    ['select_layer 1', { root: { select_layer: 1 } }, (c) => c.vision.layersToRun, 1],
    ['absent select_layer', { root: { select_layer: undefined } }, (c) => c.vision.layersToRun, 3],
    [
      'embedding output alone',
      { root: { select_layer: -4 } },
      (c) => [c.selectLayer, c.vision.layersToRun],
      [-4, 0],
    ],
    ['own system message', { root: { system_message: 'Be brief.' } }, (c) => c.systemMessage, 'Be brief.'],
    ['explicit head_dim', { llm: { head_dim: 32 } }, (c) => c.llm.headDim, 32],
    [
      'rope_parameters of newer files',
      { llm: { rope_theta: undefined, rope_parameters: { rope_type: 'default', rope_theta: 1e6 } } },
      (c) => c.llm.ropeTheta,
      1e6,
    ],
  ])('takes %s', (_name, changes, read, expected) => {
    expect(read(parseModelConfig(changed(changes)))).toEqual(expected);
  });

  it('prefers the end-of-sequence ids of generation_config.json', () => {
    expect(parseModelConfig(publishedConfig(), { eos_token_id: [2, 7] }).llm.eosTokenIds).toEqual([2, 7]);
    expect(parseModelConfig(publishedConfig(), { eos_token_id: null }).llm.eosTokenIds).toEqual([7]);
  });

  it('gives frozen data', () => {
    const config = parseModelConfig(publishedConfig());
    expect(
      [config, config.vision, config.llm, config.llm.eosTokenIds].map((part) => Object.isFrozen(part)),
    ).toEqual([true, true, true, true]);
  });

  it.each<[Changes, string]>([
    [{ llm: { hidden_act: 'gelu' } }, 'llm_config.hidden_act is "gelu"; it is supported as silu alone'],
    [
      { vision: { hidden_act: 'quick_gelu' } },
      'vision_config.hidden_act is "quick_gelu"; it is supported as gelu alone',
    ],
    [
      { vision: { norm_type: 'layer_norm' } },
      'vision_config.norm_type is "layer_norm"; it is supported as rms_norm alone',
    ],
    [{ vision: { qkv_bias: true } }, 'vision_config.qkv_bias is true; it is supported as false alone'],
    [{ llm: { attention_bias: true } }, 'llm_config.attention_bias is true'],
    [
      { llm: { rope_scaling: { type: 'dynamic', factor: 2 } } },
      'llm_config.rope_scaling is {"type":"dynamic","factor":2}',
    ],
    [{ root: { downsample_ratio: 0.25 } }, 'downsample_ratio is 0.25; it is supported as 0.5 alone'],
    [{ root: { select_layer: 4 } }, 'select_layer is 4; it must lie in -4..3 for 3 vision layers'],
    [{ root: { select_layer: -5 } }, 'select_layer is -5'],
    [{ root: { ps_version: 'v3' } }, 'ps_version is "v3"; it is supported as v1, v2 alone'],
    [{ root: { force_image_size: 450 } }, 'force_image_size is 450; it must be a multiple'],
    [{ llm: { num_key_value_heads: 3 } }, 'llm_config.num_key_value_heads is 3; it must divide'],
    [{ llm: { hidden_size: 'big' } }, 'llm_config.hidden_size is "big"; it must be a number'],
    [{ llm: { hidden_size: 0 } }, 'llm_config.hidden_size is 0; it must lie in'],
    [{ llm: { num_hidden_layers: 1.5 } }, 'llm_config.num_hidden_layers is 1.5; it must be a whole number'],
    [{ llm: { rope_theta: -1 } }, 'llm_config.rope_theta is -1'],
    [{ llm: { rms_norm_eps: 0 } }, 'llm_config.rms_norm_eps is 0'],
    [{ llm: { eos_token_id: [] } }, 'llm_config.eos_token_id is []'],
    [
      { llm: { architectures: ['InternLM2ForCausalLM'] } },
      'llm_config.architectures is ["InternLM2ForCausalLM"]; it must contain LlamaForCausalLM',
    ],
    [{ root: { torch_dtype: 'float8' } }, 'torch_dtype is "float8"'],
  ])('refuses %j', (changes, message) => {
    expect(() => parseModelConfig(changed(changes))).toThrow(ConfigError);
    expect(() => parseModelConfig(changed(changes))).toThrow(`config.json: ${message}`);
  });

  it.each([
    [null, 'the file is null'],
    [{}, 'vision_config is missing'],
    [{ vision_config: {} }, 'llm_config is missing'],
    [{ vision_config: [], llm_config: {} }, 'vision_config is []; it must be an object'],
  ])('refuses the document %j', (config, message) => {
    expect(() => parseModelConfig(config)).toThrow(message);
  });
});
