// The words of the tensor-parallel plan: what one rank holds of one tensor and where each part of it comes from.

/** The type the weights and activations have at run time. */
export type WeightDType = 'float32' | 'bfloat16';

/** The type that a weight is kept in; int8 and float8 have a float32 scale for each row. */
export type StoredDType = WeightDType | 'int8' | 'float8';

/** A rectangle that moves from the checkpoint into a local tensor. The source is read as a row-major matrix with sourceColumns columns. */
export interface TensorCopy {
  /** Name in the checkpoint. */
  readonly source: string;
  /** Shape that the checkpoint must give it. */
  readonly sourceShape: readonly number[];
  readonly sourceColumns: number;
  readonly srcRow: number;
  readonly srcCol: number;
  readonly rows: number;
  readonly cols: number;
  readonly dstRow: number;
  readonly dstCol: number;
}

/** One tensor of one rank. What no copy writes stays zero: that is the padding. */
export interface TensorPlan {
  readonly name: string;
  readonly dtype: StoredDType;
  /** [rows, cols], or [cols] for a vector. */
  readonly shape: readonly number[];
  readonly copies: readonly TensorCopy[];
}

/** One rank's share of an axis: `width` entries of which the first `count` are real, from `start` on; the rest is padding. */
export interface Span {
  readonly start: number;
  readonly count: number;
  readonly width: number;
}

/** Splits an axis of `total` entries into worldSize equal widths; padding falls to the last ranks. */
export function span(total: number, rank: number, worldSize: number): Span {
  const width = Math.ceil(total / worldSize);
  const start = Math.min(rank * width, total);
  return { start, count: Math.min(width, total - start), width };
}

/** The same share of an axis on which every entry takes `size` places (heads -> features). */
export function scaled(share: Span, size: number): Span {
  return { start: share.start * size, count: share.count * size, width: share.width * size };
}

/** The whole tensor on every rank, seen as `shape`. */
export function replicated(
  name: string,
  dtype: WeightDType,
  source: string,
  sourceShape: readonly number[],
  shape: readonly number[] = sourceShape,
): TensorPlan {
  const cols = shape.at(-1) ?? 0;
  const rows = elements(shape) / cols;
  const copy = {
    source,
    sourceShape,
    sourceColumns: cols,
    srcRow: 0,
    srcCol: 0,
    rows,
    cols,
    dstRow: 0,
    dstCol: 0,
  };
  return { name, dtype, shape, copies: [copy] };
}

/** Where a block of rows comes from: rows [offset + share.start, …) of a [sourceRows, cols] matrix. */
export interface RowBlock {
  readonly source: string;
  readonly sourceRows: number;
  readonly offset: number;
  readonly share: Span;
}

/** Blocks of rows of one or more matrices of equal width, one under the other: the output features of a column-parallel layer. */
export function rowBlocks(
  name: string,
  dtype: StoredDType,
  cols: number,
  blocks: readonly RowBlock[],
): TensorPlan {
  const copies: TensorCopy[] = [];
  let dstRow = 0;
  for (const { source, sourceRows, offset, share } of blocks) {
    if (share.count > 0)
      copies.push({
        source,
        sourceShape: [sourceRows, cols],
        sourceColumns: cols,
        srcRow: offset + share.start,
        srcCol: 0,
        rows: share.count,
        cols,
        dstRow,
        dstCol: 0,
      });
    dstRow += share.width;
  }
  return { name, dtype, shape: [dstRow, cols], copies };
}

/** A share of the rows of one [sourceRows, cols] matrix. */
export function rowShare(
  name: string,
  dtype: WeightDType,
  source: string,
  sourceRows: number,
  cols: number,
  share: Span,
): TensorPlan {
  return rowBlocks(name, dtype, cols, [{ source, sourceRows, offset: 0, share }]);
}

/** A share of the columns of one [rows, sourceCols] matrix: the input features of a row-parallel layer. */
export function columnShare(
  name: string,
  dtype: StoredDType,
  source: string,
  rows: number,
  sourceCols: number,
  share: Span,
): TensorPlan {
  return columns(name, dtype, [rows, share.width], source, [rows, sourceCols], share);
}

/** A share of a vector of `length` entries. */
export function vectorShare(
  name: string,
  dtype: WeightDType,
  source: string,
  length: number,
  share: Span,
): TensorPlan {
  return columns(name, dtype, [share.width], source, [length], share);
}

function columns(
  name: string,
  dtype: StoredDType,
  shape: readonly number[],
  source: string,
  sourceShape: readonly number[],
  share: Span,
): TensorPlan {
  const sourceColumns = sourceShape.at(-1) ?? 0;
  const rows = elements(sourceShape) / sourceColumns;
  const place = { srcRow: 0, srcCol: share.start, rows, cols: share.count, dstRow: 0, dstCol: 0 };
  const copies = share.count > 0 ? [{ source, sourceShape, sourceColumns, ...place }] : [];
  return { name, dtype, shape, copies };
}

/** Number of entries of a tensor of this shape. */
export function elements(shape: readonly number[]): number {
  return shape.reduce((product, dim) => product * dim, 1);
}

/** The scales of a quantized weight follow its entries from the next multiple of this many bytes on. */
const SCALES_ALIGNMENT = 64;

/** Bytes of one entry. */
export function bytesPerElement(dtype: StoredDType): number {
  return dtype === 'float32' ? 4 : dtype === 'bfloat16' ? 2 : 1;
}

/** Bytes that the rank holds for this tensor, padding and scales included. */
export function planBytes(plan: TensorPlan): number {
  const plain = elements(plan.shape) * bytesPerElement(plan.dtype);
  if (plan.dtype === 'float32' || plan.dtype === 'bfloat16') return plain;
  return Math.ceil(plain / SCALES_ALIGNMENT) * SCALES_ALIGNMENT + 4 * (plan.shape[0] ?? 0);
}

/** Bytes of it that are padding. */
export function paddingBytes(plan: TensorPlan): number {
  const real = plan.copies.reduce((sum, copy) => sum + copy.rows * copy.cols, 0);
  return (elements(plan.shape) - real) * bytesPerElement(plan.dtype);
}
