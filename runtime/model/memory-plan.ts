// Who holds what of a rank's memory, in words: for the message of a rank that ran out of it. Pure.

/** Bytes, as planned. */
export interface MemoryPlan {
  readonly weights: number;
  /** 0 while it is not decided. */
  readonly kvCache: number;
  readonly encodedPictures: number;
  readonly forwardPasses: number;
}

/** What there is. */
export interface DeviceMemory {
  readonly name: string;
  readonly freeBytes: number;
  readonly totalBytes: number;
}

const WORDS: readonly (readonly [keyof MemoryPlan, string])[] = [
  ['weights', 'weights'],
  ['kvCache', 'KV cache'],
  ['encodedPictures', 'encoded pictures'],
  ['forwardPasses', 'forward passes'],
];

/** The native operation that ran out of memory said no more than that; this says of what. */
export class OutOfMemory extends Error {
  override readonly name = 'OutOfMemory';
  readonly code = 'out_of_memory';

  constructor(cause: Error, plan: MemoryPlan, device: DeviceMemory) {
    super(`${cause.message}. ${describeMemory(plan, device)}`, { cause });
  }
}

/** "Planned: weights 80.1 GB, … = 85.2 GB; NVIDIA H100 has 85.0 GB, 2.1 GB of them free. …" with what to change. */
export function describeMemory(plan: MemoryPlan, { name, freeBytes, totalBytes }: DeviceMemory): string {
  const planned = WORDS.map(([key, words]) => `${words} ${gigabytes(plan[key])}`).join(', ');
  const sum = WORDS.reduce((total, [key]) => total + plan[key], 0);
  const advice =
    plan.weights > 0.9 * totalBytes
      ? 'the weights alone fill it: split the model over more ranks, or quantize it (--quantization fp8, or int8)'
      : 'give the KV cache less (--kv-cache-fraction, --kv-cache-bytes), or shorten --max-model-length, --max-batched-tokens or --max-sequences';
  return `Planned: ${planned} = ${gigabytes(sum)}; ${name} has ${gigabytes(totalBytes)}, ${gigabytes(freeBytes)} of them free: ${advice}`;
}

function gigabytes(bytes: number): string {
  return bytes < 1e8 ? `${(bytes / 1e6).toFixed(1)} MB` : `${(bytes / 1e9).toFixed(1)} GB`;
}
