// What a device does at best, measured on it: the limits that everything else is held against.
import type { Native, Tensor } from '../runtime/native/index.ts';
import type { DeviceSpeed } from './roofline.ts';
import { seconds } from './timing.ts';

const COPY_BYTES = 2 ** 30;
const COPY_WIDTH = 8192;
/** Rows and columns of both factors. */
const PRODUCT_SIDE = 8192;

export interface DeviceSpeedOptions {
  readonly copyBytes?: number;
  readonly productSide?: number;
}

export function measureDeviceSpeed(ops: Native, options: DeviceSpeedOptions = {}): DeviceSpeed {
  const { copyBytes = COPY_BYTES, productSide = PRODUCT_SIDE } = options;
  return { bytesPerSecond: copySpeed(ops, copyBytes), flopsPerSecond: productSpeed(ops, productSide) };
}

function copySpeed(ops: Native, bytes: number): number {
  const rows = Math.floor(bytes / (COPY_WIDTH * 2));
  const [from, to] = [0, 1].map(() => ops.allocate('bfloat16', [rows, COPY_WIDTH])) as [Tensor, Tensor];
  const once = seconds(ops, () => ops.copyRows(to, 0, from, 0, rows));
  for (const tensor of [from, to]) ops.free(tensor);
  return (2 * rows * COPY_WIDTH * 2) / once;
}

/** Random factors: products of zeros run faster than any real ones. */
function productSpeed(ops: Native, side: number): number {
  const [x, weight] = [0, 1].map((seed) => {
    const factor = ops.allocate('bfloat16', [side, side]);
    ops.fillRandom(factor, seed, 0, 1);
    return factor;
  }) as [Tensor, Tensor];
  const once = seconds(ops, () => {
    const mark = ops.mark();
    ops.linear(x, weight, null, 'bfloat16');
    ops.release(mark);
  });
  for (const factor of [x, weight]) ops.free(factor);
  return (2 * side ** 3) / once;
}
