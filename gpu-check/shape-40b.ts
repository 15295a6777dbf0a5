// The shape of InternVL-Chat-V1-2, as its config.json has it.
import { modelShape, type Shape } from '../bench/shapes.ts';

const shape = modelShape(
  {
    hidden_size: 7168,
    intermediate_size: 20_480,
    num_hidden_layers: 60,
    num_attention_heads: 56,
    num_key_value_heads: 8,
    vocab_size: 64_007,
  },
  { hidden_size: 3200, intermediate_size: 12_800, num_attention_heads: 25 },
);

export const SHAPE_40B = { ...shape, vision_config: { ...shape.vision_config, num_hidden_layers: 45 } };

/** The language model's first layers, and one of vision. */
export function layersOf40B(layers: number): Shape {
  return { ...shape, llm_config: { ...shape.llm_config, num_hidden_layers: layers } };
}
