import { afterEach, describe, expect, it } from 'vitest';
import { modelShape } from '../../bench/shapes.ts';
import { native } from '../native/index.ts';
import { parseModelConfig } from './config.ts';
import { dummyWeights } from './dummy-weights.ts';
import { partition } from './partition.ts';

const ops = native();
const CONFIG = parseModelConfig(
  modelShape(
    {
      hidden_size: 64,
      intermediate_size: 128,
      num_hidden_layers: 2,
      num_attention_heads: 4,
      num_key_value_heads: 2,
      vocab_size: 101,
    },
    { hidden_size: 32, intermediate_size: 64, num_attention_heads: 2 },
  ),
);

const valuesOf = (weights: ReturnType<typeof dummyWeights>, name: string) =>
  ops.readFloat32(weights.get(name));

describe('dummyWeights', () => {
  const made: ReturnType<typeof dummyWeights>[] = [];
  const make = (...args: Parameters<typeof dummyWeights>) => {
    made.push(dummyWeights(...args));
    return made.at(-1)!;
  };
  afterEach(() => {
    for (const weights of made.splice(0)) weights.free();
  });

  it('are the same every time, and differ from tensor to tensor', () => {
    const plans = partition(CONFIG, 0, 1, 'float32');
    const [a, b] = [make(ops, plans), make(ops, plans)];
    for (const { name } of plans) expect(valuesOf(a, name)).toEqual(valuesOf(b, name));
    expect(valuesOf(a, 'language.layers.0.qkvProj')).not.toEqual(valuesOf(a, 'language.layers.1.qkvProj'));
  });

  it('keep activations of one magnitude: matrices of variance 1 / K, norms about 1', () => {
    const weights = make(ops, partition(CONFIG, 0, 1, 'bfloat16'));
    const gate = valuesOf(weights, 'language.layers.0.gateUpProj');
    const variance = gate.reduce((sum, value) => sum + value * value, 0) / gate.length;
    expect(variance * 64).toBeGreaterThan(0.9);
    expect(variance * 64).toBeLessThan(1.1);
    for (const name of [
      'language.norm',
      'vision.layers.0.norm1',
      'vision.layers.0.qNorm',
      'projector.norm.weight',
    ])
      for (const value of valuesOf(weights, name)) expect(Math.abs(value - 1)).toBeLessThan(0.11);
  });

  it.each(['int8', 'fp8'] as const)(
    'fills %s weights with their scales, and says how far it is',
    (quantization) => {
      const progress: number[] = [];
      const plans = partition(CONFIG, 0, 2, 'bfloat16', quantization);
      const weights = make(ops, plans, ({ loadedBytes, totalBytes }) =>
        progress.push(loadedBytes / totalBytes),
      );
      expect(progress).toHaveLength(plans.length);
      expect(progress.at(-1)).toBe(1);
      const down = valuesOf(weights, 'language.layers.0.downProj');
      expect(Math.max(...down)).toBeCloseTo(Math.sqrt(3 / 64), 2);
    },
  );

  it('holds nothing when memory runs out', () => {
    const before = ops.memoryBytes().persistent;
    const [first] = partition(CONFIG, 0, 1, 'float32');
    const huge = { ...first!, name: 'huge', shape: [2 ** 40, 1] };
    expect(() => dummyWeights(ops, [first!, huge])).toThrow(/allocate: out of memory/);
    expect(ops.memoryBytes().persistent).toBe(before);
  });
});
