// Matrix products of the published model's sizes, one at a time.
import type { Row } from '../bench/results.ts';
import type { Native } from '../runtime/native/index.ts';
import type { DeviceSpeed } from './roofline.ts';
import { seconds } from './timing.ts';

/** [N, K] of the language model's products, then what has the most rows in the vision tower. */
const PRODUCTS: readonly (readonly [n: number, k: number])[] = [
  [9216, 7168],
  [7168, 7168],
  [40_960, 7168],
  [7168, 20_480],
  [12_800, 3200],
];
const ROWS = [1, 2, 4, 8, 16, 32, 64, 256, 1024, 4096];
/** Fewer rows take as long as their weight takes to be read. */
const FEW_ROWS = 64;

export function benchProducts(ops: Native, speed: DeviceSpeed): Row[] {
  return (['bfloat16', 'int8', 'float8'] as const).flatMap((weightType) =>
    PRODUCTS.flatMap(([n, k]) => {
      const weight = ops.allocate(weightType, [n, k]);
      // Products of zeros run faster than any real ones.
      ops.fillRandom(weight, 1, 0, 1);
      const rows = ROWS.map((t) => productRow(ops, speed, weightType, { t, n, k }, weight));
      ops.free(weight);
      return rows;
    }),
  );
}

function productRow(
  ops: Native,
  { bytesPerSecond, flopsPerSecond }: DeviceSpeed,
  weightType: 'bfloat16' | 'int8' | 'float8',
  { t, n, k }: { readonly t: number; readonly n: number; readonly k: number },
  weight: Parameters<Native['linear']>[1],
): Row {
  const x = ops.allocate('bfloat16', [t, k]);
  ops.fillRandom(x, 2, 0, 1);
  const once = seconds(ops, () => {
    const mark = ops.mark();
    ops.linear(x, weight, null, 'bfloat16');
    ops.release(mark);
  });
  ops.free(x);
  const what = { metric: 'product', shape: `[${t}, ${k}] x [${n}, ${k}], ${weightType} weight` };
  const bytes = n * k * (weightType === 'bfloat16' ? 2 : 1);
  return t <= FEW_ROWS
    ? {
        ...what,
        unit: 'GB/s of weights',
        value: bytes / once / 1e9,
        limit: bytesPerSecond / 1e9,
        limitOf: 'a copy',
      }
    : {
        ...what,
        unit: 'TFLOP/s',
        value: (2 * t * n * k) / once / 1e12,
        limit: flopsPerSecond / 1e12,
        limitOf: 'a large product',
      };
}
