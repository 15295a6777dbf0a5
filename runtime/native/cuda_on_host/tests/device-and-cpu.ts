// The same calls for the device and for the CPU, with seeded values: what they give is compared. Run as a worker thread,
// on the device that it is told.
import { isMainThread, parentPort, workerData } from 'node:worker_threads';
import { loadAddon } from '../../load.ts';
import type { DType, Native, Tensor } from '../../index.ts';

export interface Case {
  readonly dtype: 'float32' | 'bfloat16';
  readonly rows: number;
  readonly width: number;
  readonly seed: number;
}

/** The values of everything that the operations of one case give, by operation. */
export function results(ops: Native, { dtype, rows, width, seed }: Case): [string, Float32Array][] {
  const mark = ops.mark();
  const made: [string, Float32Array][] = [];
  const give = (name: string, tensor: Tensor) => made.push([name, ops.readFloat32(tensor)]);
  let next = seed * 1000;
  const random = (type: DType, r: number, c: number, mean = 0, spread = 2): Tensor => {
    const tensor = ops.scratch(type, r, c);
    ops.fillRandom(tensor, next++, mean, spread);
    return tensor;
  };
  const persistent: Tensor[] = [];
  const allocate = (type: DType, shape: number[], mean: number): Tensor => {
    const tensor = ops.allocate(type, shape);
    ops.fillRandom(tensor, next++, mean, 1);
    persistent.push(tensor);
    return tensor;
  };
  const vector = (type: DType, length: number): Tensor => allocate(type, [length], 0.5);
  const other = dtype === 'float32' ? 'bfloat16' : 'float32';

  const x = random(dtype, rows, width);
  give('fillRandom', x);
  give('fillRandom int8', allocate('int8', [rows, width], 0));
  give('rmsNorm', ops.rmsNorm(x, vector(dtype, width), 1e-6));
  give('rmsNorm, other weight', ops.rmsNorm(x, vector(other, width), 1e-6));
  give('layerNorm', ops.layerNorm(x, vector(dtype, width), vector(other, width), 1e-6));
  const qkv = random(dtype, rows, 3 * width);
  const sums = ops.qkSumSquares(qkv);
  give('qkSumSquares', sums);
  // The device's sums differ in their last bits: qkNorm gets equal ones.
  const equal = random('float32', rows, 2, width, width / 2);
  ops.qkNorm(qkv, vector(dtype, width), vector(other, width), equal, width, 1e-6);
  give('qkNorm', qkv);
  for (const to of [dtype, other] as const) {
    give(`convert to ${to}`, ops.convert(x, vector(other, width), to));
    give(`convert to ${to}, no bias`, ops.convert(x, null, to));
  }
  give('siluMul', ops.siluMul(random(dtype, rows, 2 * width, 0, 30)));
  const activated = random(dtype, rows, width, 0, 6);
  ops.gelu(activated);
  give('gelu', activated);
  const sum = random(dtype, rows, width);
  ops.addScaled(sum, random(other, rows, width), vector(other, width));
  ops.addScaled(sum, random(dtype, rows, width), null);
  give('addScaled', sum);
  give('addRmsNorm', ops.addRmsNorm(sum, random(other, rows, width), null, vector(dtype, width), 1e-6, null));
  const scaled = [random(dtype, rows, width), vector(other, width), vector(other, width)] as const;
  give('addRmsNorm with a scale', ops.addRmsNorm(sum, ...scaled, 1e-6, null));
  give('addRmsNorm, the sum', sum);

  const ids = Int32Array.from({ length: rows + 3 }, (_, i) => ((i * 7919 + seed) % (rows + 8)) - 4);
  give('embedding', ops.embedding(x, ops.indices(ids.map((id) => id + 10)), 10));
  give('gatherRows', ops.gatherRows(x, ops.indices(ids.map((id) => Math.min(Math.max(id, 0), rows - 1)))));
  give('gatherRows of int32', ops.gatherRows(ops.indices(ids), ops.indices(Int32Array.of(0))));

  const logits = random('float32', rows, width + 3);
  const greedy = ops.indices(new Int32Array(8 * rows));
  give('chooseTokens', ops.chooseTokens(logits, width, greedy));
  give('chooseTokens of all', ops.chooseTokens(logits, width + 3, greedy));

  const patches = random(dtype, rows, width);
  give('visionEmbed', ops.visionEmbed(patches, vector(dtype, width), random(dtype, rows + 1, width)));
  const side = 2 * Math.ceil(Math.sqrt(rows) / 2);
  const grid = random(dtype, 1 + side * side, width);
  for (const version of [1, 2] as const)
    give(`pixelShuffle ${version}`, ops.pixelShuffle(grid, side, version));
  const patch = 1 + (width % 14);
  const size = patch * (1 + (rows % 5));
  const pixels = Uint8Array.from({ length: size * size * 3 }, (_, i) => (i * 2654435761) >>> 24);
  give('patchify', ops.patchify(pixels, size, patch, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225], dtype));

  const dim = 2 * (1 + (width % 67));
  const [heads, kvHeads] = [1 + (seed % 7), 1 + (seed % 3)];
  const rotated = random(dtype, rows, (heads + 2 * kvHeads) * dim);
  const slots = Int32Array.from({ length: rows }, (_, i) => rows + 1 - i);
  const positions = Int32Array.from({ length: rows }, (_, i) => (i * 31 + seed) % 50);
  const float8 = () => allocate('float8', [kvHeads * (rows + 2), dim], 0);
  for (const caches of [
    [random(dtype, rows + 2, kvHeads * dim), random(dtype, rows + 2, kvHeads * dim)] as const,
    [float8(), float8()] as const,
  ]) {
    ops.ropeAndStoreKv(
      rotated,
      ops.indices(positions),
      ops.indices(slots),
      random('float32', 50, dim, 0, 1),
      ...caches,
      heads,
      kvHeads,
      dim,
    );
    give('rope', rotated);
    give(`k cache, ${ops.dtype(caches[0])}`, caches[0]);
    give(`v cache, ${ops.dtype(caches[1])}`, caches[1]);
  }
  give('fillRandom float8', allocate('float8', [rows, width], 0));

  for (const tensor of persistent) ops.free(tensor);
  ops.release(mark);
  return made;
}

if (!isMainThread && (workerData === 'cpu' || workerData === 'cuda')) {
  const ops = loadAddon();
  ops.useDevice(workerData, 0);
  parentPort!.on('message', (one: Case) => parentPort!.postMessage(results(ops, one)));
}
