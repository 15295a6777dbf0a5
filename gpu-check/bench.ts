// What a device does in a second: memory, products, and forward passes of the published model's shape with generated weights.
import { ModelUnderTest } from '../bench/model-under-test.ts';
import type { Native, Tensor } from '../runtime/native/index.ts';
import { Operands } from './operands.ts';
import { SHAPE_40B } from './shape-40b.ts';

export interface BenchRow {
  readonly metric: string;
  readonly shape: string;
  readonly unit: string;
  readonly value: number;
}

const GIB = 2 ** 30;

/** Seconds of one `run`, which only queues work: the mean over as many as take half a second, after two. */
function seconds(ops: Native, run: () => void): number {
  const probe = ops.allocate('float32', [1]);
  const time = (count: number): number => {
    const begin = performance.now();
    for (let i = 0; i < count; i++) run();
    ops.readFloat32(probe); // waits for all before it
    return (performance.now() - begin) / 1000;
  };
  time(2);
  const once = time(1);
  const count = Math.max(3, Math.min(500, Math.ceil(0.5 / once)));
  const total = time(count);
  ops.free(probe);
  return total / count;
}

function copy(ops: Native): BenchRow[] {
  const width = 8192;
  const rows = Math.floor(GIB / (width * 2));
  const [from, to] = [0, 1].map(() => ops.allocate('bfloat16', [rows, width])) as [Tensor, Tensor];
  const once = seconds(ops, () => ops.copyRows(to, 0, from, 0, rows));
  for (const tensor of [from, to]) ops.free(tensor);
  return [
    { metric: 'copy, bytes read and written', shape: '1 GiB', unit: 'GB/s', value: (2 * GIB) / once / 1e9 },
  ];
}

/** [N, K] of the language model's products, then what has the most rows in the vision tower. */
const PRODUCTS: readonly (readonly [n: number, k: number])[] = [
  [9216, 7168],
  [7168, 7168],
  [40_960, 7168],
  [7168, 20_480],
  [12_800, 3200],
];
const ROWS = [1, 2, 4, 8, 16, 32, 64, 256, 1024, 4096];

function products(ops: Native): BenchRow[] {
  return (['bfloat16', 'int8'] as const).flatMap((weightType) =>
    PRODUCTS.flatMap(([n, k]) => {
      const weight = ops.allocate(weightType, [n, k]);
      const rows = ROWS.flatMap((t) => {
        const operands = new Operands(ops, t);
        const x = operands.tensor('bfloat16', [t, k]);
        const once = seconds(ops, () => {
          const mark = ops.mark();
          ops.linear(x, weight, null, 'bfloat16');
          ops.release(mark);
        });
        operands.free();
        const shape = `[${t}, ${k}] x [${n}, ${k}], ${weightType} weight`;
        const bytes = n * k * (weightType === 'int8' ? 1 : 2);
        const speed =
          t <= 64
            ? { unit: 'GB/s of weights', value: bytes / once / 1e9 }
            : { unit: 'TFLOP/s', value: (2 * t * n * k) / once / 1e12 };
        return [{ metric: 'product', shape, ...speed }];
      });
      ops.free(weight);
      return rows;
    }),
  );
}

/** Bytes that the whole model takes beside its cache. */
const BYTES_OF_40B = { bfloat16: 81e9, int8: 48e9 };

function model(ops: Native): BenchRow[] {
  const free = ops.deviceInfo().freeBytes;
  const quantization = free > BYTES_OF_40B.bfloat16 + 8e9 ? 'none' : 'int8';
  if (free < BYTES_OF_40B[quantization === 'none' ? 'bfloat16' : 'int8'] + 8e9) return [];
  const measured = new ModelUnderTest(SHAPE_40B, { dtype: 'bfloat16', quantization, threads: 1, ops });
  const shape = `40B, bfloat16${quantization === 'none' ? '' : ', int8 weights'}`;
  const rows: BenchRow[] = [];
  for (const context of [512, 2048]) {
    for (const sequences of [1, 4, 8]) {
      const once = seconds(ops, measured.decode(sequences, context));
      const metric = `decode, batch ${sequences}, context ${context}`;
      rows.push({ metric, shape, unit: 'tokens/s', value: sequences / once });
      const share = measured.decodeBytes(sequences, context) / once / 1e9;
      rows.push({ metric: `${metric}: bytes it must read`, shape, unit: 'GB/s', value: share });
    }
  }
  for (const tokens of [512, 2048]) {
    const once = seconds(ops, measured.prefill(tokens));
    rows.push({ metric: `prefill, ${tokens} tokens`, shape, unit: 'tokens/s', value: tokens / once });
  }
  const image = seconds(ops, () => measured.encodeImage());
  rows.push({ metric: 'image', shape, unit: 'ms', value: 1000 * image });
  measured.close();
  return rows;
}

/** By name, in order. Each leaves the device's memory as it was but for the arena: run the model's in a process of its own. */
export const BENCHES: ReadonlyMap<string, (ops: Native) => BenchRow[]> = new Map([
  ['copy', copy],
  ['products', products],
  ['model', model],
]);
