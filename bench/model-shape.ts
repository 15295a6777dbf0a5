// Configurations of models that exist only as shapes.

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
): unknown {
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
