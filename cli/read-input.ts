import { readFile, stat } from 'node:fs/promises';
import { usageError } from './cli-error.ts';

const MAX_FILE_BYTES = 2 ** 30;

/** All of standard input as UTF-8 text; a UsageError when it is something else. */
export async function readStdin(): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of process.stdin) chunks.push(chunk as Buffer);
  return decode(Buffer.concat(chunks), 'standard input');
}

/** A file's bytes; what is wrong with it is wrong usage of the flag. */
export async function readInputFile(path: string, flag: string): Promise<Buffer> {
  try {
    const { size } = await stat(path);
    if (size > MAX_FILE_BYTES)
      throw usageError(`${flag}: ${path} has ${size} bytes; at most ${MAX_FILE_BYTES} are read`);
    return await readFile(path);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') throw usageError(`${flag}: there is no file ${path}`);
    if (code === 'EISDIR') throw usageError(`${flag}: ${path} is a directory, not a file`);
    if (code === 'EACCES') throw usageError(`${flag}: ${path} may not be read`);
    throw error;
  }
}

export async function readTextFile(path: string, flag: string): Promise<string> {
  return decode(await readInputFile(path, flag), `${flag}: ${path}`);
}

function decode(bytes: Uint8Array, what: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw usageError(`${what} is not UTF-8 text`);
  }
}
