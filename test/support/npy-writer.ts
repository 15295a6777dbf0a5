import { writeFileSync } from 'node:fs';

/** Writes a row-major uint8 array as a version 1 .npy file. */
export function writeUint8Npy(path: string, shape: readonly number[], data: Uint8Array): void {
  const text = `{'descr': '|u1', 'fortran_order': False, 'shape': (${shape.join(', ')},), }`;
  const header = `${text.padEnd(117)}\n`; // 10 + 118 bytes: the data starts at a multiple of 64
  const prefix = Buffer.from([0x93, ...Buffer.from('NUMPY'), 1, 0, header.length, 0]);
  writeFileSync(path, Buffer.concat([prefix, Buffer.from(header, 'latin1'), data]));
}
