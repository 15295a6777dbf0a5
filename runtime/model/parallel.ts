// What the parts of the forward pass share on one rank.

import type { Native, Tensor } from '../native/index.ts';
import type { WeightDType } from './tensor-plan.ts';

/** Sees intermediate tensors by name while they live; for tests. */
export type Taps = (name: string, tensor: Tensor) => void;

/** One rank's place in the group and the hooks of its forward pass. */
export interface RankContext {
  readonly native: Native;
  readonly dtype: WeightDType;
  readonly rank: number;
  readonly worldSize: number;
  /** Called once per layer: whoever watches for hangs sees that the pass goes on. */
  readonly progress: (() => void) | undefined;
  readonly taps: Taps | undefined;
}

/**
 * A layer whose input features are split over the ranks: x [T, K/tp] times weight [N, K/tp] transposed, summed over the ranks, plus bias [N] or
 * null -> [T, N]. The sum stays in float32 and is rounded to the model's dtype once, so that the size of the group hardly shows in the answer.
 */
export function rowParallelLinear(
  { native, dtype, worldSize }: RankContext,
  x: Tensor,
  weight: Tensor,
  bias: Tensor | null,
): Tensor {
  if (worldSize === 1) return native.linear(x, weight, bias, dtype); // the same single rounding, done in place
  const partial = native.linear(x, weight, null, 'float32'); // [T, N] this rank's part of the sum
  native.allReduce(partial); // [T, N]
  return bias === null && dtype === 'float32' ? partial : native.convert(partial, bias, dtype); // [T, N]
}
