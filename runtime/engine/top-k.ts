// Selecting the largest of many without sorting them all.

/** Whether entry a ranks before entry b: larger value, then lower index. */
export function ranksBefore(values: Float32Array, a: number, b: number): boolean {
  const left = values[a] ?? -Infinity;
  const right = values[b] ?? -Infinity;
  return left > right || (left === right && a < b);
}

/** Indices of the k largest of values, best first, equals by index. k is cut to the length; NaN must not occur. */
export function topIndices(values: Float32Array, k: number): number[] {
  const size = Math.min(k, values.length);
  if (size < 1) return [];
  // A heap of the best so far with the worst of them on top.
  const worstFirst = (a: number, b: number): boolean => ranksBefore(values, b, a);
  const heap = Array.from({ length: size }, (_, index) => index);
  for (let root = (size >> 1) - 1; root >= 0; root -= 1) siftDown(heap, root, worstFirst);
  for (let index = size; index < values.length; index += 1) {
    if (!ranksBefore(values, index, heap[0] ?? 0)) continue;
    heap[0] = index;
    siftDown(heap, 0, worstFirst);
  }
  return heap.sort((a, b) => (ranksBefore(values, a, b) ? -1 : 1));
}

/** Yields the given indices in rank order, best first, for as long as the caller asks: cheap when only a few are taken. */
export function* inRankOrder(values: Float32Array, indices: readonly number[]): Generator<number> {
  const before = (a: number, b: number): boolean => ranksBefore(values, a, b);
  const heap = [...indices];
  for (let root = (heap.length >> 1) - 1; root >= 0; root -= 1) siftDown(heap, root, before);
  for (let top = heap[0]; top !== undefined; top = heap[0]) {
    yield top;
    const last = heap.pop();
    if (heap.length === 0 || last === undefined) return;
    heap[0] = last;
    siftDown(heap, 0, before);
  }
}

function siftDown(heap: number[], root: number, before: (a: number, b: number) => boolean): void {
  const item = heap[root];
  if (item === undefined) return;
  let hole = root;
  for (;;) {
    let child = 2 * hole + 1;
    let best = heap[child];
    if (best === undefined) break;
    const right = heap[child + 1];
    if (right !== undefined && before(right, best)) {
      child += 1;
      best = right;
    }
    if (!before(best, item)) break;
    heap[hole] = best;
    hole = child;
  }
  heap[hole] = item;
}
