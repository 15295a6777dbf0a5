// Operations that compute each row, or each element, by itself.
import type { Tensor } from '../runtime/native/index.ts';
import type { Draw, Floating, Operands } from './operands.ts';
import { EXACT, tolerance, type OperationCase, type Tolerance } from './operation-case.ts';

const DTYPES: readonly Floating[] = ['float32', 'bfloat16'];
const SIZES: readonly (readonly [rows: number, width: number])[] = [
  [1, 7168],
  [33, 3200],
  [5, 37],
];
const EPS = 1e-5;

/** One case for each dtype, over all sizes. */
function each(
  name: string,
  allowed: (dtype: Floating) => Tolerance,
  run: (operands: Operands, dtype: Floating, rows: number, width: number) => readonly Tensor[],
): OperationCase[] {
  return DTYPES.map((dtype) => ({
    name: `${name} in ${dtype}`,
    tolerance: allowed(dtype),
    run: (operands) =>
      SIZES.flatMap(([rows, width]) =>
        run(operands, dtype, rows, width).map((result) => operands.ops.readFloat32(result)),
      ),
  }));
}

/** Results that are rounded twice may be two neighbours apart. */
const twice = (dtype: Floating): Tolerance => {
  const once = tolerance(dtype, 64);
  return { relative: 2 * once.relative, absolute: 2 * once.absolute };
};

const CHOSEN_ROWS = 40;
/** Of steep rows, so that hardly any share comes as close to a boundary between tokens as a device rounds. */
const CHOICES: readonly { readonly name: string; readonly draw: Omit<Draw, 'share'> }[] = [
  { name: 'the likeliest', draw: { temperature: 0, topK: 0, topP: 1 } },
  { name: 'temperature 1', draw: { temperature: 1, topK: 0, topP: 1 } },
  { name: 'top-p 0.9', draw: { temperature: 1, topK: 0, topP: 0.9 } },
  { name: 'top-k 50', draw: { temperature: 0.7, topK: 50, topP: 1 } },
  { name: 'top-k 1000, top-p 0.9', draw: { temperature: 2, topK: 1000, topP: 0.9 } },
];

export const ROW_CASES: readonly OperationCase[] = [
  ...each(
    'convert',
    () => EXACT,
    (operands, dtype, rows, width) => {
      const x = operands.tensor(dtype, [rows, width]);
      const bias = operands.tensor('float32', [width]);
      return DTYPES.flatMap((to) => [operands.ops.convert(x, null, to), operands.ops.convert(x, bias, to)]);
    },
  ),
  ...each(
    'embedding',
    () => EXACT,
    (operands, dtype, rows, width) => {
      const table = operands.tensor(dtype, [50, width]);
      return [operands.ops.embedding(table, operands.indices(rows, 70), 10)];
    },
  ),
  ...each('rmsNorm', twice, (operands, dtype, rows, width) => [
    operands.ops.rmsNorm(operands.tensor(dtype, [rows, width]), operands.tensor(dtype, [width]), EPS),
  ]),
  ...each('layerNorm', twice, (operands, dtype, rows, width) => [
    operands.ops.layerNorm(
      operands.tensor(dtype, [rows, width]),
      operands.tensor(dtype, [width]),
      operands.tensor(dtype, [width]),
      EPS,
    ),
  ]),
  ...each('qkSumSquares and qkNorm', twice, (operands, dtype, rows, width) => {
    const qkv = operands.tensor(dtype, [rows, 3 * width]);
    const sums = operands.ops.qkSumSquares(qkv);
    const [q, k] = [operands.tensor(dtype, [width]), operands.tensor(dtype, [width])];
    operands.ops.qkNorm(qkv, q, k, sums, width, EPS);
    return [sums, qkv];
  }),
  ...each(
    'gelu',
    (dtype) => tolerance(dtype),
    (operands, dtype, rows, width) => {
      const x = operands.tensor(dtype, [rows, width], 4);
      operands.ops.gelu(x);
      return [x];
    },
  ),
  ...each('siluMul', twice, (operands, dtype, rows, width) => [
    operands.ops.siluMul(operands.tensor(dtype, [rows, 2 * width], 4)),
  ]),
  ...each(
    'addScaled',
    () => EXACT,
    (operands, dtype, rows, width) => {
      const x = operands.tensor(dtype, [rows, width]);
      operands.ops.addScaled(x, operands.tensor(dtype, [rows, width]), null);
      operands.ops.addScaled(x, operands.tensor('float32', [rows, width]), operands.tensor(dtype, [width]));
      return [x];
    },
  ),
  ...each('addRmsNorm', twice, (operands, dtype, rows, width) => {
    const x = operands.tensor(dtype, [rows, width]);
    const scale = operands.tensor(dtype, [width]);
    const weight = operands.tensor(dtype, [width]);
    const plain = operands.ops.addRmsNorm(x, operands.tensor(dtype, [rows, width]), null, weight, EPS, null);
    const y = operands.tensor('float32', [rows, width]);
    return [x, plain, operands.ops.addRmsNorm(x, y, scale, weight, EPS, null)];
  }),
  ...each(
    'copyRows and gatherRows',
    () => EXACT,
    (operands, dtype, rows, width) => {
      const from = operands.tensor(dtype, [rows + 2, width]);
      const to = operands.tensor(dtype, [rows + 1, width]);
      operands.ops.copyRows(to, 1, from, 2, rows);
      return [to, operands.ops.gatherRows(to, operands.indices(9, rows + 1))];
    },
  ),
  ...CHOICES.map(({ name, draw }) => ({
    name: `chooseTokens, ${name}`,
    tolerance: EXACT,
    run: (operands: Operands) =>
      [1, 17, 300, 64_007].map((columns) => {
        const logits = operands.tensor('float32', [CHOSEN_ROWS, columns + 3], 40);
        const draws = operands.draws(CHOSEN_ROWS, draw);
        const ids = new Int32Array(CHOSEN_ROWS);
        operands.ops.finishRead(
          operands.ops.startRead(operands.ops.chooseTokens(logits, columns, draws)),
          ids,
        );
        return Float32Array.from(ids);
      }),
  })),
];
