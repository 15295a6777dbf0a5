// Text of a flag to a value; what cannot be read as one is wrong usage. Whether a value is allowed is the server's to say.
import { InvalidArgumentError } from 'commander';

export function parseNumber(text: string): number {
  const value = Number(text);
  if (text.trim() === '' || !Number.isFinite(value)) throw new InvalidArgumentError('it must be a number.');
  return value;
}

/** A whole number of 0..2^32-1, as the wire has it. */
export function parseCount(text: string): number {
  if (!/^[0-9]{1,10}$/.test(text) || Number(text) > 0xffff_ffff)
    throw new InvalidArgumentError('it must be a whole number of 0 or more.');
  return Number(text);
}

/** An unsigned 64-bit number. */
export function parseSeed(text: string): bigint {
  if (!/^[0-9]{1,20}$/.test(text) || BigInt(text) > 0xffff_ffff_ffff_ffffn)
    throw new InvalidArgumentError('it must be a whole number of 0..2^64-1.');
  return BigInt(text);
}

export function parsePort(text: string): number {
  if (!/^[0-9]{1,5}$/.test(text) || Number(text) > 65_535)
    throw new InvalidArgumentError('it must be a port, 0..65535; 0 takes any free one.');
  return Number(text);
}

export function parseTensorParallelSize(text: string): 1 | 2 | 4 | 8 {
  const size = [1, 2, 4, 8].find((allowed) => String(allowed) === text);
  if (size === undefined) throw new InvalidArgumentError('it must be 1, 2, 4 or 8.');
  return size as 1 | 2 | 4 | 8;
}

export function parseWorldSize(text: string): number {
  const size = /^[0-9]{1,2}$/.test(text) ? Number(text) : 0;
  if (size < 2 || size > 64) throw new InvalidArgumentError('it must be a whole number from 2 to 64.');
  return size;
}

/** Token ids between commas or white space. */
export function parseTokenIds(text: string): number[] {
  const trimmed = text.trim().replace(/^\[/, '').replace(/\]$/, '').trim();
  return trimmed === '' ? [] : trimmed.split(/[\s,]+/).map(parseCount);
}

/** Gathers a flag that may be repeated. */
export function collect<Value>(parse: (text: string) => Value): (text: string, before?: Value[]) => Value[] {
  return (text, before = []) => [...before, parse(text)];
}
