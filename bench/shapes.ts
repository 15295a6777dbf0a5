// Shapes to measure, as a checkpoint's config.json has them.

const LLM = {
  architectures: ['LlamaForCausalLM'],
  hidden_act: 'silu',
  max_position_embeddings: 4096,
  rms_norm_eps: 1e-5,
  rope_theta: 5e6,
  vocab_size: 8009,
  eos_token_id: 7,
  bos_token_id: 1,
  tie_word_embeddings: false,
};
const VISION = {
  hidden_act: 'gelu',
  num_hidden_layers: 1,
  image_size: 448,
  patch_size: 14,
  num_channels: 3,
  layer_norm_eps: 1e-6,
  qk_normalization: true,
  qkv_bias: false,
};
const MODEL = { force_image_size: 448, downsample_ratio: 0.5, select_layer: -1, template: 'Hermes-2' };

/** A language model of 0.3 B parameters and one full-width layer of InternViT-6B (3200 wide, 25 heads): what a small machine can hold and still reads from memory. */
export const SMALL_MODEL = {
  ...MODEL,
  llm_config: {
    ...LLM,
    hidden_size: 1024,
    intermediate_size: 4096,
    num_hidden_layers: 16,
    num_attention_heads: 16,
    num_key_value_heads: 2,
  },
  vision_config: { ...VISION, hidden_size: 3200, intermediate_size: 12800, num_attention_heads: 25 },
};

/** One decoder layer of the 40B model, with a small vocabulary and next to no vision tower: 1.2 GB in bfloat16. */
export const LAYER_OF_40B = {
  ...MODEL,
  llm_config: {
    ...LLM,
    hidden_size: 7168,
    intermediate_size: 20480,
    num_hidden_layers: 1,
    num_attention_heads: 56,
    num_key_value_heads: 8,
  },
  vision_config: { ...VISION, hidden_size: 128, intermediate_size: 128, num_attention_heads: 1 },
};

export type Shape = typeof SMALL_MODEL;
