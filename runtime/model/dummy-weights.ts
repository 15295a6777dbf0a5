// Weights that are generated on the device in place of a checkpoint's: speed and memory depend on shapes alone. Equal seeds give equal weights on
// every device; ranks of different group sizes hold different ones.

import type { Native, Tensor } from '../native/index.ts';
import { Weights } from './loader.ts';
import type { LoadProgress } from './loader.ts';
import { planBytes, type TensorPlan } from './tensor-plan.ts';

/** Allocates every tensor of the plan and fills it so that activations stay of one magnitude through any number of layers. */
export function dummyWeights(
  native: Native,
  plans: readonly TensorPlan[],
  onProgress?: (progress: LoadProgress) => void,
): Weights {
  const totalBytes = plans.reduce((sum, plan) => sum + planBytes(plan), 0);
  const tensors = new Map<string, Tensor>();
  const weights = new Weights(native, tensors, totalBytes);
  let loadedBytes = 0;
  try {
    for (const [seed, plan] of plans.entries()) {
      const tensor = native.allocate(plan.dtype, plan.shape);
      tensors.set(plan.name, tensor);
      const { mean, spread } = distribution(plan);
      native.fillRandom(tensor, seed, mean, spread);
      loadedBytes += planBytes(plan);
      onProgress?.({ loadedBytes, totalBytes });
    }
  } catch (error) {
    weights.free();
    throw error;
  }
  return weights;
}

/** Norms scale by about 1, layer scales by 0.1, biases are small; a matrix keeps the variance of what it is multiplied with. */
function distribution({ name, shape }: TensorPlan): { readonly mean: number; readonly spread: number } {
  if (/norm(\.weight|\d)?$/i.test(name)) return { mean: 1, spread: 0.1 };
  if (/\.ls\d$/.test(name)) return { mean: 0.1, spread: 0 };
  if (shape.length === 1) return { mean: 0, spread: 0.01 };
  return { mean: 0, spread: Math.sqrt(3 / (shape[1] ?? 1)) };
}
