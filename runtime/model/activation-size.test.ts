import { describe, expect, it } from 'vitest';
import { ModelUnderTest } from '../../bench/model-under-test.ts';
import { modelShape } from '../../bench/shapes.ts';
import { native } from '../native/index.ts';
import { activationBytes } from './activation-size.ts';
import { parseModelConfig } from './config.ts';

const LLM = {
  hidden_size: 512,
  intermediate_size: 2048,
  num_hidden_layers: 2,
  num_attention_heads: 8,
  num_key_value_heads: 2,
  vocab_size: 3001,
};
const VISION = { hidden_size: 128, intermediate_size: 512, num_attention_heads: 2 };
const OPERATION_BYTES = 96 << 20;

/** The arena's peak after the step. */
function peakOf(
  shape: unknown,
  dtype: 'float32' | 'bfloat16',
  step: (model: ModelUnderTest) => void,
): number {
  const model = new ModelUnderTest(shape, { dtype, quantization: 'none', threads: 1 });
  step(model);
  model.close();
  return native().memoryBytes().arenaPeak;
}

describe('activationBytes', () => {
  // One peak a thread, so the cases grow.
  it.each([
    ['bfloat16', 'a prompt', LLM, VISION, 1],
    ['float32', 'a prompt', LLM, VISION, 1],
    [
      'float32',
      'a picture',
      LLM,
      { ...VISION, hidden_size: 640, intermediate_size: 3200, num_attention_heads: 5 },
      0,
    ],
  ] as const)('in %s covers what %s takes, and little more', (dtype, _, llm, vision, prompts) => {
    const shape = modelShape(llm, vision);
    const tokens = prompts === 0 ? 1 : 1024;
    const peak = peakOf(shape, dtype, (model) => {
      if (prompts === 0) model.encodeImage();
      else model.prefill(tokens)();
    });
    const limits = {
      worldSize: 1,
      dtype,
      quantization: 'none',
      maxBatchedTokens: tokens,
      maxSequences: 1,
    } as const;
    const estimate = activationBytes(parseModelConfig(shape), limits);
    expect(peak).toBeLessThan(estimate);
    expect(estimate - OPERATION_BYTES).toBeLessThan(1.2 * peak);
    expect(estimate - OPERATION_BYTES).toBeGreaterThan(0.6 * peak);
  });

  it('is less on each rank of a group', () => {
    const config = parseModelConfig(modelShape(LLM, VISION));
    const limits = {
      dtype: 'bfloat16',
      quantization: 'none',
      maxBatchedTokens: 4096,
      maxSequences: 64,
    } as const;
    const whole = activationBytes(config, { ...limits, worldSize: 1 });
    expect(activationBytes(config, { ...limits, worldSize: 2 })).toBeLessThan(whole);
  });

  it.each([
    ['bfloat16', 1, 4096 * (2048 + 4)],
    ['bfloat16', 4, 4096 * (512 + 4)],
    ['float32', 1, 0], // which is not rounded
  ] as const)(
    'has room for a row in e4m3 of each token with fp8 weights, %s over %i ranks',
    (dtype, worldSize, more) => {
      const config = parseModelConfig(modelShape(LLM, VISION));
      const limits = { dtype, worldSize, maxBatchedTokens: 4096, maxSequences: 64 };
      const plain = activationBytes(config, { ...limits, quantization: 'none' });
      expect(activationBytes(config, { ...limits, quantization: 'fp8' }) - plain).toBe(more);
    },
  );
});
