// Forward passes of a model's shape with generated weights, each beside the least time that the device could take for it.
import { BLOCK_SIZE, modelBytes, ModelUnderTest } from '../bench/model-under-test.ts';
import type { Row } from '../bench/results.ts';
import type { Shape } from '../bench/shapes.ts';
import type { Quantization } from '../runtime/model/partition.ts';
import type { Native } from '../runtime/native/index.ts';
import { leastSeconds, type DeviceSpeed, type Work } from './roofline.ts';
import { seconds } from './timing.ts';

export interface ModelBenchOptions {
  readonly shape: Shape;
  /** What rows call it. */
  readonly name: string;
  readonly quantization: Quantization;
  readonly speed: DeviceSpeed;
  /** Sequences of the decode steps; those whose keys and values find no room are left out. */
  readonly batches: readonly number[];
  readonly context: number;
  /** Of a prompt without, and of one with a picture in it. */
  readonly promptTokens: number;
  readonly questionTokens: number;
}

/** What forward passes may take beside weights and cache. */
const WORKING_BYTES = 6e9;

export function benchModel(ops: Native, options: ModelBenchOptions): Row[] {
  const { shape, name, quantization, speed, context, promptTokens, questionTokens } = options;
  const batches = fittingBatches(ops, options);
  const tokens = Math.max(
    promptTokens,
    questionTokens,
    ...batches.map((count) => cacheTokens(count, context)),
  );
  const kvBlocks = Math.ceil(tokens / BLOCK_SIZE);
  const begin = performance.now();
  const model = new ModelUnderTest(shape, { dtype: 'bfloat16', quantization, threads: 1, ops, kvBlocks });
  ops.deviceInfo(); // asked of the device, after all that was queued before
  const rows: Row[] = [
    {
      metric: 'weights generated',
      shape: `${name}, and a cache of ${kvBlocks * BLOCK_SIZE} tokens`,
      unit: 's',
      value: (performance.now() - begin) / 1000,
    },
  ];
  const limitOf = 'what its memory and its products allow';
  const least = (work: Work): number => leastSeconds(work, speed);
  for (const sequences of batches) {
    const once = seconds(ops, model.decode(sequences, context));
    const bytes = model.decodeBytes(sequences, context);
    const metric = `decode, batch ${sequences}, context ${context}`;
    const limit = sequences / least({ bytes, flops: model.decodeFlops(sequences, context) });
    rows.push(
      { metric, shape: name, unit: 'tokens/s', value: sequences / once, limit, limitOf },
      { metric: `${metric}: what it must read`, shape: name, unit: 'GB/s', value: bytes / once / 1e9 },
    );
  }
  const image = seconds(ops, () => model.encodeImage());
  const leastImage = least({ bytes: 0, flops: model.imageFlops() });
  rows.push(timeRow('image encode', image, leastImage));
  for (const tokens of [promptTokens, questionTokens]) {
    const once = seconds(ops, model.prefill(tokens));
    const leastPrefill = least({ bytes: 0, flops: model.prefillFlops(tokens) });
    rows.push(timeRow(`prefill, ${tokens} tokens`, once, leastPrefill));
    if (tokens === questionTokens)
      rows.push(
        timeRow(`a picture encoded, and ${tokens} tokens of prompt`, image + once, leastImage + leastPrefill),
      );
  }
  model.close();
  return rows;

  function timeRow(metric: string, value: number, leastValue: number): Row {
    return {
      metric,
      shape: name,
      unit: 'ms',
      value: 1000 * value,
      limit: 1000 * leastValue,
      limitOf,
      least: true,
    };
  }
}

function cacheTokens(sequences: number, context: number): number {
  return sequences * Math.ceil((context + 1) / BLOCK_SIZE) * BLOCK_SIZE;
}

function fittingBatches(
  ops: Native,
  { shape, quantization, batches, context }: ModelBenchOptions,
): readonly number[] {
  const { weights, perToken } = modelBytes(shape, 'bfloat16', quantization);
  const left = ops.deviceInfo().freeBytes - weights - WORKING_BYTES;
  return batches.filter((sequences) => cacheTokens(sequences, context) * perToken <= left);
}
