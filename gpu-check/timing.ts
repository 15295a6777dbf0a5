// Times of work that a device is given and does later.
import type { Native } from '../runtime/native/index.ts';

/** Seconds of one `run`, which only queues work: the mean over as many as take half a second, after two. */
export function seconds(ops: Native, run: () => void): number {
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
