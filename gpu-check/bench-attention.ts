// Attention over a paged cache, of one layer at a time.
import type { Row } from '../bench/results.ts';
import type { Native, Tensor } from '../runtime/native/index.ts';
import type { DeviceSpeed } from './roofline.ts';
import { seconds } from './timing.ts';

/** Attention of one layer of the 40B model: 56 heads of 128 that share 8. */
const [HEADS, KV_HEADS, HEAD_DIM, BLOCK] = [56, 8, 128, 16];

export function benchAttention(ops: Native, speed: DeviceSpeed): Row[] {
  return (['bfloat16', 'float8'] as const).flatMap((kept) =>
    [
      { sequences: 1, queries: 1, context: 2048 },
      { sequences: 8, queries: 1, context: 2048 },
      { sequences: 32, queries: 1, context: 1024 },
      { sequences: 64, queries: 1, context: 4096 },
      { sequences: 1, queries: 2048, context: 2048 },
    ].map((size) => attentionRow(ops, kept, size, speed)),
  );
}

interface AttentionSize {
  readonly sequences: number;
  /** Of each sequence, the last of its context. */
  readonly queries: number;
  readonly context: number;
}

function attentionRow(
  ops: Native,
  kept: 'bfloat16' | 'float8',
  { sequences, queries, context }: AttentionSize,
  { bytesPerSecond, flopsPerSecond }: DeviceSpeed,
): Row {
  const maxBlocks = context / BLOCK;
  const slots = sequences * context;
  const shape = kept === 'float8' ? [KV_HEADS * slots, HEAD_DIM] : [slots, KV_HEADS * HEAD_DIM];
  const qkv = ops.allocate('bfloat16', [sequences * queries, (HEADS + 2 * KV_HEADS) * HEAD_DIM]);
  const [keys, values] = [0, 1].map(() => ops.allocate(kept, shape)) as [Tensor, Tensor];
  for (const [i, tensor] of [qkv, keys, values].entries()) ops.fillRandom(tensor, i, 0, 1);
  const mark = ops.mark();
  const int32 = (count: number, value: (i: number) => number) =>
    ops.indices(Int32Array.from({ length: count }, (_, i) => value(i)));
  const starts = int32(sequences + 1, (s) => s * queries);
  const contexts = int32(sequences, () => context);
  // Neighbours in a sequence are none in the cache; 37 and numbers of blocks have no divisor in common.
  const tables = int32(sequences * maxBlocks, (block) => (block * 37) % (sequences * maxBlocks));
  const sizes = [maxBlocks, BLOCK, HEADS, KV_HEADS, HEAD_DIM, HEAD_DIM ** -0.5] as const;
  const once = seconds(ops, () => {
    const before = ops.mark();
    ops.pagedAttention(qkv, keys, values, starts, contexts, tables, ...sizes);
    ops.release(before);
  });
  ops.release(mark);
  for (const tensor of [qkv, keys, values]) ops.free(tensor);
  const row = kept === 'float8' ? HEAD_DIM + 4 : 2 * HEAD_DIM;
  const what = { shape: `${sequences} x ${context} tokens, cache in ${kept}` };
  return queries === 1
    ? {
        ...what,
        metric: 'decode attention',
        unit: 'GB/s of keys and values',
        value: (2 * slots * KV_HEADS * row) / once / 1e9,
        limit: bytesPerSecond / 1e9,
        limitOf: 'a copy',
      }
    : {
        ...what,
        metric: 'prompt attention',
        unit: 'TFLOP/s',
        // Each query sees half of the context, in the mean.
        value: (2 * sequences * queries * context * HEADS * HEAD_DIM) / once / 1e12,
        limit: flopsPerSecond / 1e12,
        limitOf: 'a large product',
      };
}
