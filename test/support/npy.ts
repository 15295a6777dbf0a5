// Reads the .npy arrays of the fixtures: version 1 or 2 headers, little-endian, row-major.

import { readFileSync } from 'node:fs';

export interface NpyArray {
  readonly shape: readonly number[];
  readonly dtype: 'float32' | 'float64' | 'int32' | 'int64' | 'uint8';
  readonly data: Float32Array | Float64Array | Int32Array | BigInt64Array | Uint8Array;
}

const TYPES = {
  '<f4': ['float32', Float32Array],
  '<f8': ['float64', Float64Array],
  '<i4': ['int32', Int32Array],
  '<i8': ['int64', BigInt64Array],
  '|u1': ['uint8', Uint8Array],
} as const;

/** The array of a .npy file; throws when the file is none or holds a type that no fixture has. */
export function readNpy(path: string | URL): NpyArray {
  const bytes = readFileSync(path);
  if (bytes.subarray(0, 6).toString('latin1') !== '\x93NUMPY')
    throw new Error(`${String(path)}: no .npy file`);
  const wide = bytes[6] !== 1;
  const headerStart = wide ? 12 : 10;
  const dataStart = headerStart + (wide ? bytes.readUInt32LE(8) : bytes.readUInt16LE(8));
  const header = bytes.subarray(headerStart, dataStart).toString('latin1');
  const descr = /'descr': '([^']+)'/.exec(header)?.[1];
  const dims = /'shape': \(([^)]*)\)/.exec(header)?.[1];
  if (dims === undefined || !header.includes("'fortran_order': False"))
    throw new Error(`${String(path)}: unsupported header ${header}`);
  const type = TYPES[descr as keyof typeof TYPES];
  if (type === undefined) throw new Error(`${String(path)}: unsupported dtype ${descr}`);
  const shape = dims
    .split(',')
    .filter((dim) => dim.trim() !== '')
    .map(Number);
  const [dtype, TypedArray] = type;
  const length = shape.reduce((product, dim) => product * dim, 1);
  // Copied, so that the data starts at an aligned address.
  const data = new Uint8Array(bytes.subarray(dataStart)).buffer;
  if (data.byteLength !== length * TypedArray.BYTES_PER_ELEMENT)
    throw new Error(`${String(path)}: ${data.byteLength} bytes of data for shape [${shape.join(', ')}]`);
  return { shape, dtype, data: new TypedArray(data) };
}

/** As readNpy, for an array that must be float32. */
export function readFloat32Npy(path: string | URL): { shape: readonly number[]; data: Float32Array } {
  const { shape, data } = readNpy(path);
  if (!(data instanceof Float32Array)) throw new Error(`${String(path)}: not float32`);
  return { shape, data };
}

/** As readNpy, for an array that must be uint8. */
export function readUint8Npy(path: string | URL): { shape: readonly number[]; data: Uint8Array } {
  const { shape, data } = readNpy(path);
  if (!(data instanceof Uint8Array)) throw new Error(`${String(path)}: not uint8`);
  return { shape, data };
}
