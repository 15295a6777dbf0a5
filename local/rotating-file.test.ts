import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { RotatingFile } from './rotating-file.ts';

let directory: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'internvl-log-'));
});

afterEach(() => {
  rmSync(directory, { recursive: true });
});

it('keeps the latest output in at most two files of the given size', () => {
  const path = join(directory, 'rank.log');
  const file = new RotatingFile(path, 10);
  for (const text of ['aaaa', 'bbbb', 'cccc', 'dddd', 'eeee']) file.write(Buffer.from(text));
  file.close();
  expect(readFileSync(`${path}.1`, 'utf8')).toBe('ccccdddd');
  expect(readFileSync(path, 'utf8')).toBe('eeee');
});

it('goes on where an earlier process stopped', () => {
  const path = join(directory, 'rank.log');
  for (const text of ['one', 'two']) {
    const file = new RotatingFile(path, 100);
    file.write(Buffer.from(text));
    file.close();
  }
  expect(readFileSync(path, 'utf8')).toBe('onetwo');
  const full = new RotatingFile(path, 8);
  full.write(Buffer.from('three'));
  full.close();
  expect(readFileSync(path, 'utf8')).toBe('three');
});
