// The contract between TypeScript and the native operations. Every function here has the same name, the same argument order and the
// same meaning in native/src/; a test compares the two lists. Arguments are positional; tensors are numbers (handles), so that a step
// allocates nothing in JavaScript. Calls are synchronous and enqueue work; only the `read*` functions wait for results.
//
// Every operation checks shapes, dtypes and handle generations before it touches memory and throws TypeError or RangeError naming the
// operation and the operand.

import { loadAddon } from './load.ts';

/** int8 and float8 are for weights, float8 for keys and values too: a matrix of whole numbers of -127..127, or of e4m3, with a float32 scale for each row. */
export type DType = 'float32' | 'bfloat16' | 'int32' | 'uint8' | 'int8' | 'float8';

/** A tensor in the native arena or heap: an opaque handle. Persistent until `free`, or, for results of operations, until `release`. */
export type Tensor = number & { readonly __tensor: unique symbol };

/** A checkpoint file that is open for reading. */
export type CheckpointFile = number & { readonly __checkpointFile: unique symbol };

export interface DeviceInfo {
  readonly kind: 'cpu' | 'cuda';
  readonly name: string;
  readonly capability: string;
  readonly freeBytes: number;
  readonly totalBytes: number;
  /** beginGraph works: calls can be recorded. */
  readonly graphs: boolean;
}

/** How tensors go from rank to rank; the same on every rank. */
export interface CollectiveWays {
  /** 'none' for one rank, 'host (TCP)', or on devices 'peer memory', 'NCCL' or 'peer memory + NCCL'. */
  readonly path: string;
  /** The ways that a device has and that were not taken, and why. */
  readonly leftOut: string;
  /** Collectives can be recorded like other calls, where the device records any. */
  readonly graphs: boolean;
}

/** Values on their way. */
export type Reading = number & { readonly __reading: unique symbol };

/** Recorded calls. */
export type Graph = number & { readonly __graph: unique symbol };

export interface Native {
  // --- the machine
  /** CPU model, the instruction set in use ('amx' | 'avx512_bf16' | 'avx512' | 'avx2' | 'scalar') and whether bfloat16 is multiplied by its own instructions. */
  cpuInfo(): { model: string; isa: string; bfloat16Matmul: boolean };
  /**
   * Where this thread's tensors are and its operations compute from now on; the CPU until then. Before the first tensor only. Throws an Error named DeviceError
   * with what is missing: CUDA in the addon's build, a driver, one that is new enough, such a device. A device that fails later makes any function throw one.
   */
  useDevice(kind: 'cpu' | 'cuda', index: number): void;
  /** capability: 9.0 of a CUDA device, the instruction set of the CPU. Bytes of the device's memory, or the machine's. */
  deviceInfo(): DeviceInfo;
  /** While on, a device tries out how to compute each shape that it has not tried: for warming up, and not while a graph is recorded. Returns how many it has tried so far. */
  tune(on: boolean): number;
  /** A device computes products of some rows alike: of each such range of them up to `most` its largest number, ascending. Empty where nothing is tried out. */
  rowRanges(most: number): number[];
  /** Threads that this thread's operations use from now on (>= 1); where memory is near some cores and far from others, each stays near its own. */
  setThreads(count: number): void;
  /** Nanoseconds that this thread has spent inside these functions so far: what is missing from a step's duration went by in JavaScript. */
  nanosecondsInside(): number;

  // --- memory
  /** A zeroed tensor that lives until `free`. */
  allocate(dtype: DType, shape: readonly number[]): Tensor;
  free(tensor: Tensor): void;
  /** A zeroed [rows, cols] tensor in the arena. */
  scratch(dtype: DType, rows: number, cols: number): Tensor;
  /** The values as an int32 tensor [1, n] in the arena. What asks for indices takes such tensors only: their values can be checked before they are used. */
  indices(values: Int32Array): Tensor;
  /** Remembers the top of the arena; results of operations come from it. */
  mark(): number;
  /** Gives back everything allocated in the arena since `mark`; handles from then on throw when used. */
  release(mark: number): void;
  shape(tensor: Tensor): number[];
  dtype(tensor: Tensor): DType;
  /** Copies bytes into a tensor at a byte offset. */
  write(tensor: Tensor, byteOffset: number, bytes: Uint8Array): void;
  /** A copy of the values, bfloat16 widened, int8 and float8 times their scales, row-major. */
  readFloat32(tensor: Tensor): Float32Array;
  /** The beginning of a row of a float32 matrix: as many values as `into` takes. */
  readRow(x: Tensor, row: number, into: Float32Array): void;
  /** Begins to read the values that an int32 matrix has now; what comes after does not change them, and need not wait. */
  startRead(x: Tensor): Reading;
  /** Waits for them: as many of the first as `into` takes. */
  finishRead(reading: Reading, into: Int32Array): void;
  /** arenaPeak: the most that was ever used of the arena. */
  memoryBytes(): { persistent: number; arenaUsed: number; arenaPeak: number; arenaReserved: number };

  // --- recorded work, where deviceInfo().graphs
  /** From here to endGraph, calls on this thread are written down instead of done; what waits for results throws. */
  beginGraph(): void;
  /** Ends the recording; results: tensors of it that launchGraph is to give. Whatever was recorded has not been done yet. */
  endGraph(results: readonly Tensor[]): Graph;
  /**
   * Does what was recorded, on the same memory: what was read must be where it was. The arena must stand where it stood at beginGraph, and then the results
   * lie in it where they lay, until release.
   */
  launchGraph(graph: Graph): Tensor[];
  freeGraph(graph: Graph): void;

  // --- checkpoint
  openFile(path: string): CheckpointFile;
  closeFile(file: CheckpointFile): void;
  /** Its size when it was opened. */
  fileBytes(file: CheckpointFile): number;
  /**
   * Copies the rectangle [srcRow, srcRow+rows) x [srcCol, srcCol+cols) of a row-major matrix with srcStride columns, which starts at byteOffset of
   * the file, into dst at (dstRow, dstCol), converting srcDtype to dst's dtype (float32, bfloat16, float16 as 'float16' -> float32, bfloat16). dst is [rows, cols] or, for one dimension, [cols].
   * An int8 dst takes whole rows, each rounded to multiples of its largest magnitude / 127; a float8 dst to e4m3 times its largest magnitude / 448.
   * The threads read it side by side. Throws Error naming the file when it has become shorter or cannot be read; dst then holds a part.
   */
  copyFromFile(
    dst: Tensor,
    dstRow: number,
    dstCol: number,
    file: CheckpointFile,
    byteOffset: number,
    srcDtype: 'float32' | 'bfloat16' | 'float16',
    srcStride: number,
    srcRow: number,
    srcCol: number,
    rows: number,
    cols: number,
  ): void;

  // --- collectives: one group per thread; with world size 1 every one of them does nothing
  /** Prepares rank's end of a full mesh and returns, per peer j, the address at which j finds it (empty for itself). A peer that does not answer within timeoutMs makes any collective throw CollectiveError; on a device the next read* does, since it is what waits. */
  createCollective(rank: number, worldSize: number, hostname: string, timeoutMs: number): Uint8Array[];
  /** Connects to the peers: addresses[j] is what rank j's createCollective returned for this rank. Ranks on devices choose ways between those. */
  connectCollective(addresses: readonly Uint8Array[]): CollectiveWays;
  /** Frees what was recorded with collectives on a device. */
  closeCollective(): void;
  /** x summed over the ranks, in place. float32 or bfloat16 (summed in float32, rounded once). */
  allReduce(x: Tensor): void;
  /** [rows, cols] of each rank -> [rows, worldSize * cols], rank 0's columns first; float32. */
  allGatherColumns(x: Tensor): Tensor;
  /** The root's bytes to all ranks, in place. */
  broadcast(bytes: Uint8Array | Int32Array, root: number): void;
  /** Ranks first and second send each other `out`, both ways at once, and receive into `into`, of the same length. Every rank calls it; the rest does nothing. */
  swap(out: Uint8Array, into: Uint8Array, first: number, second: number): void;

  // --- operations. T tokens (rows), H hidden width. Results have x's dtype unless said otherwise; accumulation is float32.
  /** Element i of a float32 or bfloat16 tensor = mean + spread * u(seed, i), u in [-1, 1); int8: whole numbers of -127..127 times spread / 127; float8: spread * u as rows of float8 hold it. The same on every device. */
  fillRandom(tensor: Tensor, seed: number, mean: number, spread: number): void;
  /**
   * x [T, K] times weight [N, K], which may be int8 or float8, transposed, plus bias [N] or null -> [T, N] in outDtype (the float32 sum, bias included, is rounded once).
   * With a float8 weight a device that multiplies e4m3 may first round rows of a bfloat16 x, of more than 16, to e4m3 times their largest magnitude / 448.
   */
  linear(x: Tensor, weight: Tensor, bias: Tensor | null, outDtype: DType): Tensor;
  /** Rounds/widens to dtype, adding bias [H] or null first. */
  convert(x: Tensor, bias: Tensor | null, dtype: DType): Tensor;
  /** Rows ids[i] - vocabStart of table [V, H], ids int32 [1, T]; zero rows for ids outside [vocabStart, vocabStart + V). */
  embedding(table: Tensor, ids: Tensor, vocabStart: number): Tensor;
  /** x * rsqrt(mean(x^2) + eps), rounded to x's dtype, times weight [H], rounded again. */
  rmsNorm(x: Tensor, weight: Tensor, eps: number): Tensor;
  /** (x - mean) / sqrt(var + eps) * weight + bias, float32 inside, rounded once. */
  layerNorm(x: Tensor, weight: Tensor, bias: Tensor, eps: number): Tensor;
  /** Sums of squares of the first and the second third of qkv [T, 3W] -> float32 [T, 2]. */
  qkSumSquares(qkv: Tensor): Tensor;
  /** In place on the first two thirds of qkv [T, 3W]: x * rsqrt(sum / normWidth + eps), rounded, * weight [W], rounded. sums [T, 2]. */
  qkNorm(qkv: Tensor, qWeight: Tensor, kWeight: Tensor, sums: Tensor, normWidth: number, eps: number): void;
  /** Exact (erf) GELU, in place. */
  gelu(x: Tensor): void;
  /** gateUp [T, 2I] -> round(silu(gate)) * up [T, I]. */
  siluMul(gateUp: Tensor): Tensor;
  /** x += y in place; with scale [H], x += round(y * scale). y is rounded to x's dtype first. */
  addScaled(x: Tensor, y: Tensor, scale: Tensor | null): void;
  /** addScaled(x, y, scale), and rmsNorm(x, weight, eps) of what x is then, in one pass: into a tensor of x's dtype and shape that is neither x nor y, or null for a new one. */
  addRmsNorm(
    x: Tensor,
    y: Tensor,
    scale: Tensor | null,
    weight: Tensor,
    eps: number,
    into: Tensor | null,
  ): Tensor;
  /** x [T, H] rows [dstRow, dstRow+count) = src rows [srcRow, …). Same dtype and width. */
  copyRows(dst: Tensor, dstRow: number, src: Tensor, srcRow: number, count: number): void;
  /** Rows of x by index [1, n] -> [n, H]. */
  gatherRows(x: Tensor, rows: Tensor): Tensor;
  /** ids int32 [1, T], in place: -1 - i becomes element i of last int32 [n, 1], where there is one. */
  resolveIds(ids: Tensor, last: Tensor): void;
  /**
   * A token from the first `columns` values of each row of logits [L, >= columns] in float32 -> int32 [L, 1]; -1 where one of them is NaN or Infinity, or all are -Infinity. draws,
   * indices [1, 8 L], are four float64s a row, low words first: temperature, topK, topP and share. Temperature 0 takes the lowest index of the largest value, one of [1e-30, 1e30]
   * draws as drawToken does. What a row gets depends on its values and its draw alone, whatever the other rows are and how many. A device adds up weights that are whole multiples of
   * 2^-44 of the largest, each within 2^-22 of what drawToken takes: its token differs from the CPU's only where `share`, or topP, lies that close to a boundary between tokens.
   */
  chooseTokens(logits: Tensor, columns: number, draws: Tensor): Tensor;
  /**
   * Draws from softmax(logits / temperature) cut to the tokens whose logit is at least the topK-th largest (0: all), then to the fewest most
   * likely ones that hold topP of what is left (1: all). `most` is the largest logit, a number, no logit is NaN; temperature > 0. The token is the
   * one at which the sum of weights first exceeds `share` [0, 1) of all, taken most likely first (equals by id) after a cut, by id without one.
   */
  drawToken(
    logits: Float32Array,
    most: number,
    temperature: number,
    topK: number,
    topP: number,
    share: number,
  ): number;
  /** The natural logarithm of the sum of exp(logits - shift), in double precision. */
  logSumExp(logits: Float32Array, shift: number): number;
  /** The tokens of the largest logits into ids, which may be empty: best first, equals by id. No logit is NaN. */
  topTokens(logits: Float32Array, ids: Int32Array): void;

  // --- vision
  /** uint8 RGB [size, size, 3] -> normalised patches [(size/patch)^2, 3 * patch * patch] (channel, row, column order) in dtype: ((v / 255) - mean) / std in float32, then rounded. */
  patchify(
    pixels: Uint8Array,
    size: number,
    patch: number,
    mean: readonly number[],
    std: readonly number[],
    dtype: DType,
  ): Tensor;
  /** Row 0 = classEmbedding [H], rows 1.. = patches [P, H]; plus position [P + 1, H]; each add rounded -> [P + 1, H]. */
  visionEmbed(patches: Tensor, classEmbedding: Tensor, position: Tensor): Tensor;
  /** Bidirectional attention over qkv [N, 3 * numHeads * headDim], N = images * length, each image by itself -> [N, numHeads * headDim]. */
  visionAttention(qkv: Tensor, length: number, numHeads: number, headDim: number, scale: number): Tensor;
  /** [1 + side^2, H] (class row dropped) -> [side^2 / 4, 4H]; version 1: rows run down the columns, 2: along the rows. */
  pixelShuffle(x: Tensor, side: number, version: 1 | 2): Tensor;
  /** uint8 RGB width x height -> outWidth x outHeight as Pillow's BICUBIC (a = -0.5, antialiased, horizontal pass first, uint8 between), bit for bit. */
  resizeBicubic(
    rgb: Uint8Array,
    width: number,
    height: number,
    outWidth: number,
    outHeight: number,
  ): Uint8Array;

  // --- language
  /**
   * In place on qkv [T, (numHeads + 2 numKvHeads) * headDim]: rotates q and k by positions (cosSin: float32 [maxPositions, headDim], cos of the
   * headDim/2 frequencies then sin, rounded to qkv's dtype before use; each product and the sum rounded), then writes k and v to slots of the caches
   * [slots, numKvHeads * headDim] in qkv's dtype, or float8 [numKvHeads * slots, headDim], one head's slots after the other's. A float8 row
   * stands for its e4m3 times its scale, as qkv's dtype holds that: the scale is its largest magnitude / 448 as bfloat16, of 2^-126 to 255 (beyond 448 * 255 rows
   * are cut to it), and NaN where one of its numbers is not finite.
   * positions and slots: indices [1, T].
   */
  ropeAndStoreKv(
    qkv: Tensor,
    positions: Tensor,
    slots: Tensor,
    cosSin: Tensor,
    kCache: Tensor,
    vCache: Tensor,
    numHeads: number,
    numKvHeads: number,
    headDim: number,
  ): void;
  /**
   * Causal attention of the q part of qkv over the paged cache, as ropeAndStoreKv has it, -> [T, numHeads * headDim]. Sequence s owns rows queryStart[s]..queryStart[s+1]; its last
   * row stands at position contextLengths[s] - 1. Position p of s lies at slot blockTables[s * maxBlocks + p / blockSize] * blockSize + p % blockSize.
   * queryStart [1, S + 1], contextLengths [1, S] and blockTables [1, S * maxBlocks] are indices.
   */
  pagedAttention(
    qkv: Tensor,
    kCache: Tensor,
    vCache: Tensor,
    queryStart: Tensor,
    contextLengths: Tensor,
    blockTables: Tensor,
    maxBlocks: number,
    blockSize: number,
    numHeads: number,
    numKvHeads: number,
    headDim: number,
    scale: number,
  ): Tensor;
}

export { CollectiveError, NativeUnavailable } from './errors.ts';

/** The native operations of this thread; throws NativeUnavailable with what to do when the addon is not built or cannot be loaded. */
export function native(): Native {
  return loadAddon();
}
