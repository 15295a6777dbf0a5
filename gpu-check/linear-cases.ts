// Products: every kernel and every combination of types, over rows that fill tiles and such that do not.
import type { Tensor } from '../runtime/native/index.ts';
import type { Floating, Operands } from './operands.ts';
import { tolerance, type OperationCase } from './operation-case.ts';

const ROWS = [1, 2, 3, 5, 8, 9, 16, 17, 64, 200];
const SHAPES: readonly (readonly [n: number, k: number])[] = [
  [300, 256],
  [1025, 896],
  [130, 588],
  [7, 31],
  [2100, 7168],
];
const TYPES: readonly (readonly [x: Floating, weight: Floating | 'int8', out: Floating])[] = [
  ['bfloat16', 'bfloat16', 'bfloat16'],
  ['bfloat16', 'bfloat16', 'float32'],
  ['bfloat16', 'int8', 'bfloat16'],
  ['bfloat16', 'int8', 'float32'],
  ['float32', 'float32', 'float32'],
  ['float32', 'bfloat16', 'bfloat16'],
  ['float32', 'int8', 'float32'],
  ['bfloat16', 'float32', 'bfloat16'],
];
const BIASES = [null, 'float32', 'bfloat16'] as const;

export const LINEAR_CASES: readonly OperationCase[] = TYPES.flatMap(([x, weight, out]) =>
  SHAPES.map(([n, k]) => ({
    name: `linear ${x} x ${weight} -> ${out}, ${n} outputs of ${k}`,
    tolerance: tolerance(out, k),
    run: (operands) => {
      const factor =
        weight === 'int8' ? operands.int8(n, k) : operands.tensor(weight, [n, k], 1 / Math.sqrt(k));
      const biases = BIASES.map((bias) => (bias === null ? null : operands.tensor(bias, [n])));
      return ROWS.map((rows, i) => {
        const bias = biases[i % biases.length] as Tensor | null;
        return product(operands, operands.tensor(x, [rows, k]), factor, bias, out);
      });
    },
  })),
);

function product(
  { ops }: Operands,
  x: Tensor,
  weight: Tensor,
  bias: Tensor | null,
  out: Floating,
): Float32Array {
  return ops.readFloat32(ops.linear(x, weight, bias, out));
}
