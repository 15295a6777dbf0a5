// Rank processes whose device is the emulation: how they start on it, and what they die of where it is missing or fails.

import { spawn } from 'node:child_process';
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

const MAIN = fileURLToPath(new URL('../../../runtime/main.ts', import.meta.url));
const CHECKPOINT = fileURLToPath(new URL('../../fixtures/checkpoints/tiny', import.meta.url));

interface Line {
  readonly message: string;
  readonly err?: { readonly name?: string; readonly message?: string };
  readonly code?: number;
  readonly shapes?: number;
  readonly untried?: number;
}

/** Runs a rank until it serves or ends: its lines of log, the last of them, and its exit code, undefined while it serves. */
async function start(
  environment: Readonly<Record<string, string>>,
  flags: readonly string[] = [],
): Promise<{ readonly lines: readonly Line[]; readonly line: Line; readonly exitCode: number | undefined }> {
  const sizes = ['--max-model-length', '64', '--max-sequences', '2', '--kv-cache-bytes', '4194304'];
  const model = flags.includes('--model') ? [] : ['--model', CHECKPOINT];
  const args = [MAIN, ...model, '--listen', '127.0.0.1:0', '--threads', '1', ...sizes, ...flags];
  const child = spawn(process.execPath, args, {
    env: { ...process.env, INTERNVL_DEVICE: 'cuda', ...environment },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const exited = new Promise<number>((resolve) => child.once('exit', (code) => resolve(code ?? -1)));
  let last: Line = { message: 'nothing' };
  const lines: Line[] = [];
  for await (const text of createInterface({ input: child.stdout })) {
    if (!text.startsWith('{')) continue;
    last = JSON.parse(text) as Line;
    lines.push(last);
    if (last.message !== 'serving') continue;
    child.kill('SIGTERM');
    await exited;
    return { lines, line: last, exitCode: undefined };
  }
  return { lines, line: last, exitCode: await exited };
}

describe('a rank on a CUDA device', () => {
  // Pictures of 16 patches: the emulation takes half a minute for one of 1,024, which is all the time that a device has for trying things out.
  let smallPictures = '';
  beforeAll(async () => {
    smallPictures = await mkdtemp(join(tmpdir(), 'internvl-small-pictures-'));
    await cp(CHECKPOINT, smallPictures, { recursive: true });
    const path = join(smallPictures, 'config.json');
    const config = JSON.parse(await readFile(path, 'utf8')) as Readonly<Record<string, unknown>>;
    await writeFile(path, JSON.stringify({ ...config, force_image_size: 56 }));
  });
  afterAll(() => rm(smallPictures, { recursive: true }));

  it('serves with generated weights', async () => {
    const generated = ['--model', smallPictures, '--load-format', 'dummy', '--dtype', 'float32'];
    const { lines, line, exitCode } = await start({}, generated);
    const warm = lines.find(({ message }) => message === 'warmed up');
    expect(warm).toMatchObject({ untried: 0 });
    expect(warm?.shapes).toBeGreaterThan(10);
    expect(line).toMatchObject({ message: 'serving' });
    expect(exitCode).toBeUndefined();
  }, 300_000);

  it.each<[string, Readonly<Record<string, string>>, readonly string[], RegExp]>([
    ['no driver', { CUDA_ON_HOST_DRIVER: '0' }, [], /no NVIDIA driver: install one/],
    [
      'an old driver',
      { CUDA_ON_HOST_DRIVER: '11080' },
      [],
      /too old: it is for CUDA 11\.8, this build needs/,
    ],
    ['no device', { CUDA_ON_HOST_DEVICES: '0' }, [], /no CUDA device: .*nvidia\.com\/gpu/],
    ['not so many devices', {}, ['--device', 'cuda:3'], /no CUDA device 3: this process sees 1/],
    [
      'an old device',
      { CUDA_ON_HOST_CAPABILITY: '75' },
      [],
      /compute capability 7\.5; 8\.0 or later is needed/,
    ],
    ['a kernel that cannot be launched', { CUDA_ON_HOST_FAIL_LAUNCH: '1' }, [], /launch/],
  ])('ends with exit code 6 and says why: %s', async (_, environment, flags, message) => {
    const { line, exitCode } = await start(environment, flags);
    expect(line.err?.message).toMatch(message);
    expect(line).toMatchObject({ message: 'fatal', code: 6 });
    expect(exitCode).toBe(6);
  });

  it.each<[string, string, RegExp]>([
    [
      'weights',
      '34500000',
      /^allocate: out of device memory: asked for \d+ bytes, .* Planned: weights 1\.8 MB, /,
    ],
    [
      'warm-up',
      '38000000',
      /^tune: out of device memory: asked for .* forward passes 0\.1 GB = .* free: give/,
    ],
  ])('ends with who was to hold what when its memory is too small for its %s', async (_, bytes, message) => {
    const { line, exitCode } = await start({ CUDA_ON_HOST_MEMORY: bytes }, ['--encoder-cache-bytes', '0']);
    expect(line.err?.message).toMatch(message);
    expect(exitCode).toBe(2);
  });
});
