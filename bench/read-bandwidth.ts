// The machine's read bandwidth: what decoding is measured against. Neighbours on a shared machine move it by half, so it is measured beside what
// it limits, again for each row.
import { spawnSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';

const SOURCE = fileURLToPath(new URL('read-bandwidth.cc', import.meta.url));
const PROGRAM = fileURLToPath(new URL('../build/bench/read-bandwidth', import.meta.url));

let built = false;

function run(program: string, args: readonly string[]): string {
  const { error, status, stdout, stderr } = spawnSync(program, args, { encoding: 'utf8' });
  if (error) throw new Error(`cannot run ${program}: ${error.message}`);
  if (status !== 0) throw new Error(`${program} ended with ${status}: ${stderr}`);
  return stdout;
}

/** Bytes per second that all cores together read from memory, best of some ways to read. Takes about a second, in which nothing else should run. */
export function readBandwidth(threads = availableParallelism()): number {
  if (!built) {
    mkdirSync(dirname(PROGRAM), { recursive: true });
    run('c++', ['-std=c++20', '-O3', '-march=native', '-pthread', SOURCE, '-o', PROGRAM]);
    built = true;
  }
  return Number(run(PROGRAM, [String(threads)]));
}
