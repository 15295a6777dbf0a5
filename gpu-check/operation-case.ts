// An operation on some operands: run on two devices, its results must agree.
import type { Operands } from './operands.ts';

export interface OperationCase {
  readonly name: string;
  /** What results may differ by: |a - b| <= relative * |b| + absolute. 0 and 0: not at all. */
  readonly tolerance: Tolerance;
  run(operands: Operands): Float32Array[];
}

export interface Tolerance {
  readonly relative: number;
  readonly absolute: number;
}

export const EXACT: Tolerance = { relative: 0, absolute: 0 };

/** Results of dtype: sums of `terms` products are taken in another order, so that a bfloat16 result may round to its neighbour. */
export function tolerance(dtype: 'float32' | 'bfloat16', terms = 1): Tolerance {
  const error = 2e-6 * Math.sqrt(terms) + 1e-6;
  return dtype === 'bfloat16'
    ? { relative: 2 ** -7 + error, absolute: error }
    : { relative: error, absolute: error };
}
