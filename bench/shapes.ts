// Configurations of models that exist only as shapes, as a checkpoint's config.json has them.

/** A config.json in the published layout: one decoder of Llama's architecture, one layer of vision, and what does not show in the speed. */
export function modelShape(
  llm: {
    readonly hidden_size: number;
    readonly intermediate_size: number;
    readonly num_hidden_layers: number;
    readonly num_attention_heads: number;
    readonly num_key_value_heads: number;
    readonly vocab_size: number;
  },
  vision: {
    readonly hidden_size: number;
    readonly intermediate_size: number;
    readonly num_attention_heads: number;
  },
) {
  return {
    force_image_size: 448,
    downsample_ratio: 0.5,
    select_layer: -1,
    template: 'Hermes-2',
    llm_config: {
      architectures: ['LlamaForCausalLM'],
      hidden_act: 'silu',
      max_position_embeddings: 4096,
      rms_norm_eps: 1e-5,
      rope_theta: 5e6,
      eos_token_id: 7,
      bos_token_id: 1,
      tie_word_embeddings: false,
      ...llm,
    },
    vision_config: {
      hidden_act: 'gelu',
      num_hidden_layers: 1,
      image_size: 448,
      patch_size: 14,
      num_channels: 3,
      layer_norm_eps: 1e-6,
      qk_normalization: true,
      qkv_bias: false,
      ...vision,
    },
  };
}

export type Shape = ReturnType<typeof modelShape>;

/** A language model of 0.3 B parameters and one full-width layer of InternViT-6B (3200 wide, 25 heads): what a small machine can hold and still reads from memory. */
export const SMALL_MODEL = modelShape(
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

/** The decoder of TinyLlama-1.1B with the vocabulary of the published model; almost no vision. */
export const MEDIUM_MODEL = modelShape(
  {
    hidden_size: 2048,
    intermediate_size: 5632,
    num_hidden_layers: 22,
    num_attention_heads: 32,
    num_key_value_heads: 4,
    vocab_size: 64_000,
  },
  { hidden_size: 128, intermediate_size: 128, num_attention_heads: 2 },
);

/** One decoder layer of the 40B model, with a small vocabulary and next to no vision tower: 1.2 GB in bfloat16. */
export const LAYER_OF_40B = modelShape(
  {
    hidden_size: 7168,
    intermediate_size: 20480,
    num_hidden_layers: 1,
    num_attention_heads: 56,
    num_key_value_heads: 8,
    vocab_size: 8009,
  },
  { hidden_size: 128, intermediate_size: 128, num_attention_heads: 1 },
);
