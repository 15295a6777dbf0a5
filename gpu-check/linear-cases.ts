// Products: every kernel and every combination of types, over rows that fill tiles and such that do not.
import type { Tensor } from '../runtime/native/index.ts';
import type { Floating, Operands } from './operands.ts';
import { tolerance, type OperationCase, type Tolerance } from './operation-case.ts';

type Quantized = 'int8' | 'float8';

const ROWS = [1, 2, 3, 5, 8, 9, 16, 17, 64, 200];
const SHAPES: readonly (readonly [n: number, k: number])[] = [
  [300, 256],
  [1024, 512],
  [1025, 896],
  [130, 588],
  [7, 31],
  [2100, 7168],
];
const TYPES: readonly (readonly [x: Floating, weight: Floating | Quantized, out: Floating])[] = [
  ['bfloat16', 'bfloat16', 'bfloat16'],
  ['bfloat16', 'bfloat16', 'float32'],
  ['bfloat16', 'int8', 'bfloat16'],
  ['bfloat16', 'int8', 'float32'],
  ['float32', 'float32', 'float32'],
  ['float32', 'bfloat16', 'bfloat16'],
  ['float32', 'int8', 'float32'],
  ['bfloat16', 'float8', 'bfloat16'],
  ['bfloat16', 'float8', 'float32'],
  ['float32', 'float8', 'float32'],
  ['bfloat16', 'float32', 'bfloat16'],
];
const BIASES = [null, 'float32', 'bfloat16'] as const;

export const LINEAR_CASES: readonly OperationCase[] = TYPES.flatMap(([x, weight, out]) =>
  SHAPES.map(([n, k]) => ({
    name: `linear ${x} x ${weight} -> ${out}, ${n} outputs of ${k}`,
    tolerance: weight === 'float8' && x === 'bfloat16' ? float8Tolerance(out, k) : tolerance(out, k),
    run: (operands) => {
      const factor =
        weight === 'int8' || weight === 'float8'
          ? operands.quantized(weight, n, k)
          : operands.tensor(weight, [n, k], 1 / Math.sqrt(k));
      // Of many rows the device rounds x beside a float8 weight, and the CPU does not: what is rounded already is equal.
      const rounded = weight === 'float8' && x === 'bfloat16';
      const biases = BIASES.map((bias) => (bias === null ? null : operands.tensor(bias, [n])));
      return ROWS.map((rows, i) => {
        const bias = biases[i % biases.length] as Tensor | null;
        const values = rounded ? operands.float8Values(rows, k) : operands.tensor(x, [rows, k]);
        return product(operands, values, factor, bias, out);
      });
    },
  })),
);

/** Tensor cores that multiply e4m3 keep some 14 bits of a sum of 128 products, which are up to 7 here, before they add it in float32. */
function float8Tolerance(out: Floating, k: number): Tolerance {
  const { relative } = tolerance(out, k);
  return { relative, absolute: 2 ** -11 * Math.sqrt(k) };
}

function product(
  { ops }: Operands,
  x: Tensor,
  weight: Tensor,
  bias: Tensor | null,
  out: Floating,
): Float32Array {
  return ops.readFloat32(ops.linear(x, weight, bias, out));
}
