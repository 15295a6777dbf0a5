// What a device does in a second, by name: run in the device's own process, which ends afterwards and leaves the memory free.
import type { Row } from '../bench/results.ts';
import type { DeviceInfo, Native } from '../runtime/native/index.ts';
import type { Quantization } from '../runtime/model/partition.ts';
import { benchAttention } from './bench-attention.ts';
import { benchChoices } from './bench-choices.ts';
import { benchLoop } from './bench-loop.ts';
import { benchModel } from './bench-model.ts';
import { benchProducts } from './bench-products.ts';
import { measureDeviceSpeed } from './device-speed.ts';
import type { DeviceSpeed } from './roofline.ts';
import { SHAPE_40B } from './shape-40b.ts';

/** Bytes that the whole model takes beside its cache, and what a forward pass and a few sequences take. */
const BYTES_OF_40B = { none: 81e9, quantized: 48e9 };
const BYTES_BESIDE = 8e9;
/** From this capability on tensor cores multiply e4m3. */
const FLOAT8_CAPABILITY = 8.9;

/** How the 40B fits this device; undefined when it does not. */
export function quantizationFor({ freeBytes, capability }: DeviceInfo): Quantization | undefined {
  if (freeBytes > BYTES_OF_40B.none + BYTES_BESIDE) return 'none';
  if (freeBytes < BYTES_OF_40B.quantized + BYTES_BESIDE) return undefined;
  return Number(capability) >= FLOAT8_CAPABILITY ? 'fp8' : 'int8';
}

export function nameOf40B(quantization: Quantization): string {
  return `40B, bfloat16${quantization === 'none' ? '' : `, ${quantization} weights`}`;
}

/** Of the 40B's decode steps. */
export const BATCHES = [1, 8, 32, 128];
export const CONTEXT = 1000;
/** A picture and a long question. */
export const PROMPT_TOKENS = 786;
/** A picture's 256 tokens and 500 others. */
const QUESTION_TOKENS = 756;

type Bench = (ops: Native) => Row[] | Promise<Row[]>;

export const DEVICE_BENCHES: ReadonlyMap<string, Bench> = new Map<string, Bench>([
  ['speed', (ops) => speedRows(measureDeviceSpeed(ops))],
  ['products', (ops) => benchProducts(ops, measureDeviceSpeed(ops))],
  ['attention', (ops) => benchAttention(ops, measureDeviceSpeed(ops))],
  ['choices', benchChoices],
  ['model', model],
  ['loop', loop],
]);

function speedRows({ bytesPerSecond, flopsPerSecond }: DeviceSpeed): Row[] {
  return [
    {
      metric: 'copy, bytes read and written',
      shape: '1 GiB',
      unit: 'GB/s',
      value: bytesPerSecond / 1e9,
    },
    {
      metric: 'product',
      shape: '8192 x 8192 x 8192, bfloat16',
      unit: 'TFLOP/s',
      value: flopsPerSecond / 1e12,
    },
  ];
}

function model(ops: Native): Row[] {
  const quantization = quantizationFor(ops.deviceInfo());
  if (quantization === undefined) return [];
  return benchModel(ops, {
    shape: SHAPE_40B,
    name: nameOf40B(quantization),
    quantization,
    speed: measureDeviceSpeed(ops),
    batches: BATCHES,
    context: CONTEXT,
    promptTokens: PROMPT_TOKENS,
    questionTokens: QUESTION_TOKENS,
  });
}

async function loop(ops: Native): Promise<Row[]> {
  const quantization = quantizationFor(ops.deviceInfo());
  if (quantization === undefined) return [];
  return await benchLoop(ops, {
    shape: SHAPE_40B,
    name: nameOf40B(quantization),
    quantization,
    batches: [1, 16, 64],
  });
}
