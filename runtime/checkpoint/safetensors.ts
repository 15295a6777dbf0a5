// The header of a safetensors file: 8 bytes little-endian length, that many bytes of JSON, then the data that the JSON's offsets point into.
// Nothing of a header is believed: files come from anywhere and their offsets become addresses.

import { CheckpointError } from './checkpoint-error.ts';

/** The element types that a file may hold, with their width in bytes. */
export const SAFETENSORS_DTYPES = {
  BOOL: 1,
  U8: 1,
  I8: 1,
  F8_E5M2: 1,
  F8_E4M3: 1,
  I16: 2,
  U16: 2,
  F16: 2,
  BF16: 2,
  I32: 4,
  U32: 4,
  F32: 4,
  F64: 8,
  I64: 8,
  U64: 8,
} as const;

export type SafetensorsDType = keyof typeof SAFETENSORS_DTYPES;

export interface HeaderTensor {
  readonly dtype: SafetensorsDType;
  readonly shape: readonly number[];
  /** From the start of the file. */
  readonly byteOffset: number;
  readonly byteLength: number;
}

/** Bytes before the JSON. */
export const LENGTH_BYTES = 8;

/** The format's own limit on the JSON, 100 MB. */
export const MAX_HEADER_BYTES = 100_000_000;

const MAX_DIMENSIONS = 8;

/** Length of the JSON from the first 8 bytes; file is named in errors. */
export function parseHeaderLength(prefix: Uint8Array, fileBytes: number, file: string): number {
  if (prefix.byteLength < LENGTH_BYTES)
    throw invalid(file, `is ${fileBytes} bytes long, too short for a safetensors header`);
  const view = new DataView(prefix.buffer, prefix.byteOffset, prefix.byteLength);
  const length = view.getBigUint64(0, true);
  if (length > BigInt(MAX_HEADER_BYTES))
    throw invalid(file, `claims a header of ${length} bytes; at most ${MAX_HEADER_BYTES} are allowed`);
  if (Number(length) > fileBytes - LENGTH_BYTES)
    throw invalid(
      file,
      `is truncated: the header is ${length} bytes long, but the file has only ${fileBytes - LENGTH_BYTES} after its length`,
    );
  return Number(length);
}

/** The tensors of a header by name. json is the header without its length; fileBytes the size of the whole file; file is named in errors. */
export function parseHeader(
  json: Uint8Array,
  fileBytes: number,
  file: string,
): ReadonlyMap<string, HeaderTensor> {
  const header = parseJson(json, file);
  const dataStart = LENGTH_BYTES + json.byteLength;
  const dataBytes = fileBytes - dataStart;
  const tensors = new Map<string, HeaderTensor>();
  for (const [name, entry] of Object.entries(header)) {
    if (name === '__metadata__') continue;
    tensors.set(name, parseEntry(name, entry, dataStart, dataBytes, file));
  }
  checkOverlap(tensors, file);
  return tensors;
}

function parseJson(json: Uint8Array, file: string): Record<string, unknown> {
  let header: unknown;
  try {
    header = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(json));
  } catch (cause) {
    throw invalid(file, 'has a header that is not JSON', cause);
  }
  if (typeof header !== 'object' || header === null || Array.isArray(header))
    throw invalid(file, 'has a header that is not a JSON object');
  return header as Record<string, unknown>;
}

function parseEntry(
  name: string,
  entry: unknown,
  dataStart: number,
  dataBytes: number,
  file: string,
): HeaderTensor {
  const problem = (text: string) => invalid(file, `tensor ${name} ${text}`);
  if (typeof entry !== 'object' || entry === null) throw problem('has no entry object');
  const { dtype, shape, data_offsets: offsets } = entry as Record<string, unknown>;
  if (typeof dtype !== 'string' || !Object.hasOwn(SAFETENSORS_DTYPES, dtype))
    throw new CheckpointError(
      'unsupported_dtype',
      `${file}: tensor ${name} has the unknown dtype ${JSON.stringify(dtype)}; known are ${Object.keys(SAFETENSORS_DTYPES).join(', ')}`,
    );
  const known = dtype as SafetensorsDType;
  if (!Array.isArray(shape) || shape.length > MAX_DIMENSIONS || !shape.every(isSize))
    throw problem(`has the impossible shape ${JSON.stringify(shape)}`);
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isSize))
    throw problem(`has the impossible data_offsets ${JSON.stringify(offsets)}`);
  const [start, end] = offsets as [number, number];
  if (end < start) throw problem(`ends (${end}) before it starts (${start})`);
  if (end > dataBytes)
    throw problem(
      `ends at byte ${end} of the data, but the file has only ${Math.max(dataBytes, 0)}: truncated, or a wrong offset`,
    );
  const elements = shape.reduce((product, size) => product * size, 1);
  const byteLength = elements * SAFETENSORS_DTYPES[known];
  if (!Number.isSafeInteger(byteLength) || byteLength !== end - start)
    throw problem(
      `of shape [${shape.join(', ')}] and dtype ${known} needs ${byteLength} bytes, but its offsets span ${end - start}`,
    );
  return { dtype: known, shape: Object.freeze(shape), byteOffset: dataStart + start, byteLength };
}

function checkOverlap(tensors: ReadonlyMap<string, HeaderTensor>, file: string): void {
  const inOrder = [...tensors].sort(
    ([, a], [, b]) => a.byteOffset - b.byteOffset || a.byteLength - b.byteLength,
  );
  let end = 0;
  let endOf = '';
  for (const [name, tensor] of inOrder) {
    if (tensor.byteLength > 0 && tensor.byteOffset < end)
      throw invalid(file, `tensor ${name} overlaps tensor ${endOf}`);
    if (tensor.byteLength > 0) {
      end = tensor.byteOffset + tensor.byteLength;
      endOf = name;
    }
  }
}

function isSize(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
}

function invalid(file: string, problem: string, cause?: unknown): CheckpointError {
  return new CheckpointError(
    'invalid_file',
    `${file}: ${problem}`,
    cause === undefined ? undefined : { cause },
  );
}
