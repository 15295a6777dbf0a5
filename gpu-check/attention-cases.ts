// Attention, what stands before and after it, and the vision tower's ends.
import type { Tensor } from '../runtime/native/index.ts';
import type { Floating, Operands } from './operands.ts';
import { EXACT, tolerance, type OperationCase, type Tolerance } from './operation-case.ts';

const DTYPES: readonly Floating[] = ['float32', 'bfloat16'];
const MEAN = [0.485, 0.456, 0.406];
const STD = [0.229, 0.224, 0.225];

/** Weights of a softmax in bfloat16 move a sum of values up to 1 by up to 2^-8. */
const attention = (dtype: Floating): Tolerance =>
  dtype === 'bfloat16' ? { relative: 2 ** -7, absolute: 2 ** -7 } : { relative: 1e-4, absolute: 1e-5 };

function visionCases(dtype: Floating): OperationCase[] {
  const shapes: readonly (readonly [images: number, length: number, heads: number, dim: number])[] = [
    [1, 5, 2, 16],
    [2, 65, 3, 64],
    [1, 1025, 2, 128],
  ];
  return [
    {
      name: `visionAttention in ${dtype}`,
      tolerance: attention(dtype),
      run: (operands) =>
        shapes.map(([images, length, heads, dim]) => {
          const qkv = operands.tensor(dtype, [images * length, 3 * heads * dim], 2);
          return operands.ops.readFloat32(operands.ops.visionAttention(qkv, length, heads, dim, dim ** -0.5));
        }),
    },
    {
      name: `patchify, visionEmbed and pixelShuffle in ${dtype}`,
      tolerance: EXACT,
      run: (operands) => {
        const { ops } = operands;
        const patches = ops.patchify(operands.pixels(56), 56, 14, MEAN, STD, dtype);
        const rows = operands.tensor(dtype, [16, 96]);
        const embedded = ops.visionEmbed(
          rows,
          operands.tensor(dtype, [96]),
          operands.tensor(dtype, [17, 96]),
        );
        const shuffled = ([1, 2] as const).map((version) => ops.pixelShuffle(embedded, 4, version));
        return [patches, embedded, ...shuffled].map((result) => ops.readFloat32(result));
      },
    },
  ];
}

interface Heads {
  readonly heads: number;
  readonly kvHeads: number;
  readonly dim: number;
}

/** Sequences with so many queries each at the end of so many tokens. */
type Sequences = readonly (readonly [queries: number, context: number])[];

const BLOCK = 16;
const BLOCKS = 96;

const SLOTS = BLOCKS * BLOCK;
const POSITIONS = 2048;

/** A random cache of keys, or values. float8 ones have the scales that belong to their rows, so that tokens have to be stored in them. */
function randomCaches(
  operands: Operands,
  dtype: Floating,
  kept: Floating | 'float8',
  shape: Heads,
  cosSin: Tensor,
): [Tensor, Tensor] {
  const { ops } = operands;
  const { heads, kvHeads, dim } = shape;
  if (kept !== 'float8') {
    const cache = () => operands.tensor(kept, [SLOTS, kvHeads * dim]);
    return [cache(), cache()];
  }
  const caches: [Tensor, Tensor] = [
    operands.zeros('float8', kvHeads * SLOTS, dim),
    operands.zeros('float8', kvHeads * SLOTS, dim),
  ];
  const tokens = operands.tensor(dtype, [SLOTS, (heads + 2 * kvHeads) * dim]);
  const all = ops.indices(Int32Array.from({ length: SLOTS }, (_, slot) => slot));
  ops.ropeAndStoreKv(tokens, all, all, cosSin, ...caches, heads, kvHeads, dim);
  return caches;
}

/** Fills a cache with random keys and values, rotates and stores those of the queries, and attends. */
function attend(
  operands: Operands,
  dtype: Floating,
  kept: Floating | 'float8',
  shape: Heads,
  sequences: Sequences,
): Float32Array[] {
  const { ops } = operands;
  const { heads, kvHeads, dim } = shape;
  const tokens = sequences.reduce((sum, [queries]) => sum + queries, 0);
  const qkv = operands.tensor(dtype, [tokens, (heads + 2 * kvHeads) * dim], 2);
  const cosSin = operands.tensor('float32', [POSITIONS, dim]);
  const [keys, values] = randomCaches(operands, dtype, kept, shape, cosSin);
  const maxBlocks = Math.max(...sequences.map(([, context]) => Math.ceil(context / BLOCK)));
  // Every other block, so that neighbours in a sequence are none in the cache.
  const tables = sequences.flatMap((_, s) =>
    Array.from({ length: maxBlocks }, (_, block) => ((s * maxBlocks + block) * 37) % BLOCKS),
  );
  const places = sequences.flatMap(([queries, context], s) =>
    Array.from({ length: queries }, (_, i) => ({ s, position: context - queries + i })),
  );
  const slots = places.map(
    ({ s, position }) =>
      (tables[s * maxBlocks + Math.floor(position / BLOCK)] as number) * BLOCK + (position % BLOCK),
  );
  const starts = sequences.reduce((sums, [queries]) => [...sums, (sums.at(-1) as number) + queries], [0]);
  const int32 = (list: readonly number[]) => ops.indices(Int32Array.from(list));
  const positions = int32(places.map(({ position }) => position));
  ops.ropeAndStoreKv(qkv, positions, int32(slots), cosSin, keys, values, heads, kvHeads, dim);
  const contexts = int32(sequences.map(([, context]) => context));
  const out = ops.pagedAttention(
    qkv,
    keys,
    values,
    int32(starts),
    contexts,
    int32(tables),
    maxBlocks,
    BLOCK,
    heads,
    kvHeads,
    dim,
    dim ** -0.5,
  );
  return [qkv, keys, values, out].map((result) => ops.readFloat32(result));
}

const PAGED: readonly (readonly [name: string, Heads, Sequences])[] = [
  ['one token each', { heads: 14, kvHeads: 2, dim: 128 }, [[1, 1], [1, 17], [1, 300], [1, 900]]], // prettier-ignore
  ['a prompt', { heads: 7, kvHeads: 1, dim: 128 }, [[300, 300]]],
  ['a prompt in parts beside others', { heads: 8, kvHeads: 8, dim: 64 }, [[100, 250], [1, 80], [33, 33]]], // prettier-ignore
  ['odd sizes', { heads: 6, kvHeads: 3, dim: 24 }, [[3, 20], [1, 5]]], // prettier-ignore
];

export const ATTENTION_CASES: readonly OperationCase[] = DTYPES.flatMap((dtype) => [
  ...visionCases(dtype),
  ...[dtype, 'float8' as const].flatMap((kept) =>
    PAGED.map(([name, heads, sequences]) => ({
      name: `ropeAndStoreKv and pagedAttention in ${dtype}, cache in ${kept}: ${name}`,
      tolerance: dtype === 'bfloat16' ? attention(dtype) : tolerance(dtype, 900),
      run: (operands: Operands) => attend(operands, dtype, kept, heads, sequences),
    })),
  ),
]);
