// Weights of a given shape without a checkpoint: speed depends on the shapes, not on the values. Values are small, so that activations stay
// finite over any number of layers.
import type { Native, Tensor } from '../runtime/native/index.ts';
import { Weights } from '../runtime/model/loader.ts';
import { planBytes, type StoredDType, type TensorPlan } from '../runtime/model/tensor-plan.ts';

const CHUNK_BYTES = 1 << 20;

/** Allocates every tensor of the plan and fills it with values of magnitude below 1/64 drawn from a fixed sequence. */
export function randomWeights(native: Native, plans: readonly TensorPlan[]): Weights {
  const chunks = {
    float32: randomChunk('float32'),
    bfloat16: randomChunk('bfloat16'),
    int8: randomChunk('int8'),
  };
  const tensors = new Map<string, Tensor>();
  let bytes = 0;
  for (const plan of plans) {
    const tensor = native.allocate(plan.dtype, plan.shape);
    const size = planBytes(plan);
    const chunk = chunks[plan.dtype];
    for (let offset = 0; offset < size; offset += CHUNK_BYTES)
      native.write(tensor, offset, chunk.subarray(0, Math.min(CHUNK_BYTES, size - offset)));
    if (plan.dtype === 'int8') {
      const scales = new Float32Array(plan.shape[0] ?? 0).fill(1 / 64 / 127);
      native.write(tensor, size - scales.byteLength, new Uint8Array(scales.buffer));
    }
    tensors.set(plan.name, tensor);
    bytes += size;
  }
  return new Weights(native, tensors, bytes);
}

function randomChunk(dtype: StoredDType): Uint8Array {
  let state = 0x9e3779b9;
  const next = (): number => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 2 ** 32;
  };
  if (dtype === 'int8')
    return new Uint8Array(Int8Array.from({ length: CHUNK_BYTES }, () => (next() - 0.5) * 254).buffer);
  const values = new Float32Array(CHUNK_BYTES / (dtype === 'float32' ? 4 : 2)).map(() => (next() - 0.5) / 32);
  if (dtype === 'float32') return new Uint8Array(values.buffer);
  const bits = new Uint32Array(values.buffer);
  return new Uint8Array(Uint16Array.from(bits, (word) => word >>> 16).buffer);
}
