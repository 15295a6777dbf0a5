// Model configurations for tests of pure code.

import type { ModelConfig } from '../../runtime/model/config.ts';
import { parseModelConfig } from '../../runtime/model/config.ts';

/** The values of the published 40B config.json that decide shapes. */
export const PUBLISHED_40B = {
  architectures: ['InternVLChatModel'],
  downsample_ratio: 0.5,
  force_image_size: 448,
  select_layer: -1,
  template: 'Hermes-2',
  vision_config: {
    hidden_size: 3200,
    num_hidden_layers: 45,
    num_attention_heads: 25,
    intermediate_size: 12800,
    patch_size: 14,
    image_size: 448,
    layer_norm_eps: 1e-6,
    qk_normalization: true,
    qkv_bias: false,
  },
  llm_config: {
    architectures: ['LlamaForCausalLM'],
    hidden_size: 7168,
    num_hidden_layers: 60,
    num_attention_heads: 56,
    num_key_value_heads: 8,
    intermediate_size: 20480,
    vocab_size: 64007,
    rms_norm_eps: 1e-5,
    rope_theta: 5e6,
    max_position_embeddings: 4096,
    tie_word_embeddings: false,
    bos_token_id: 1,
    eos_token_id: 7,
  },
  torch_dtype: 'bfloat16',
};

/** The published 40B model. */
export function config40B(): ModelConfig {
  return parseModelConfig(PUBLISHED_40B);
}

/** A small model with chosen sizes; the rest follows the published one. */
export function smallConfig(
  vision: Record<string, unknown> = {},
  llm: Record<string, unknown> = {},
  root: Record<string, unknown> = {},
): ModelConfig {
  return parseModelConfig({
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
  });
}
