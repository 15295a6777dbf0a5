// The images that need no pull: built, the same for the same inputs, and their programs run in them as a restricted pod runs them.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { readFile, stat } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, it } from 'vitest';
import { command, run } from '../support/control-plane.ts';
import { FIXTURES } from '../support/served.ts';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const RUN_IMAGE = fileURLToPath(new URL('../support/run-image.sh', import.meta.url));
const MODEL = `${FIXTURES}checkpoints/tiny`;

const archive = (image: string) => `${ROOT}build/images/${image}.tar`;
const build = () => command('bash', [`${ROOT}scripts/build-images.sh`, '--local']);
const inside = (image: string, ...args: readonly string[]) =>
  run('bash', [RUN_IMAGE, archive(image), MODEL, ...args]);

let version: string;

beforeAll(async () => {
  ({ version } = JSON.parse(await readFile(`${ROOT}package.json`, 'utf8')) as { version: string });
  await build();
});

describe('images built without pulls', () => {
  it('are not built again while nothing changed', async () => {
    const times = () =>
      Promise.all(['operator', 'runtime'].map(async (name) => (await stat(archive(name))).mtimeMs));
    const before = await times();
    const { stderr } = await build();
    expect(stderr.match(/is up to date/g)).toHaveLength(2);
    expect(await times()).toEqual(before);
  });

  it.each(['operator', 'runtime'])('%s has its name, its user and its program', async (image) => {
    const read = async (file: string) =>
      JSON.parse((await command('tar', ['-xOf', archive(image), file])).stdout) as unknown;
    const [entry] = (await read('manifest.json')) as [{ Config: string; RepoTags: readonly string[] }];
    expect(entry.RepoTags).toEqual([`localhost/internvl-${image}:${version}`]);
    const { config } = (await read(entry.Config)) as { config: Record<string, unknown> };
    expect(config).toMatchObject({ User: '65532:65532', Entrypoint: [`internvl-${image}`] });
  });

  it('answers --version', async () => {
    expect(await inside('operator', 'internvl', '--version')).toMatchObject({
      stdout: `${version}\n`,
      code: 0,
    });
  });

  it.each([
    ['operator', 'internvl-operator', /--runtime-image IMAGE is missing/],
    ['operator', 'internvl-router', /--listen HOST:PORT is missing/],
    ['runtime', 'internvl-runtime', /--model is required/],
  ])('%s: %s says what it needs', async (image, program, complaint) => {
    const { stdout, stderr, code } = await inside(image, program);
    expect(stdout + stderr).toMatch(complaint);
    expect(code).toBe(2);
  });

  it('reads pictures and loads a model until it serves', async () => {
    const sharp = "console.log(require('/opt/internvl/node_modules/sharp').format.webp.id)";
    expect(await inside('runtime', 'node', '-e', sharp)).toMatchObject({ stdout: 'webp\n', code: 0 });

    const flags = {
      model: '/model',
      'served-name': 'tiny',
      rank: '0',
      'world-size': '1',
      ranks: '127.0.0.1:50051',
      listen: '127.0.0.1:50051',
      'metrics-listen': '127.0.0.1:9090',
      'collective-host': '127.0.0.1',
      dtype: 'float32',
    };
    const args = Object.entries(flags).flatMap(([name, value]) => [`--${name}`, value]);
    const rank = spawn('bash', [RUN_IMAGE, archive('runtime'), MODEL, 'internvl-runtime', ...args], {
      // In a process group of its own: the script's shell alone would not pass a signal on.
      detached: true,
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const ended = once(rank, 'exit');
    const messages: string[] = [];
    for await (const line of createInterface({ input: rank.stdout })) {
      messages.push((JSON.parse(line) as { message: string }).message);
      if (messages.at(-1) === 'serving' || messages.at(-1) === 'fatal') break;
    }
    process.kill(-(rank.pid ?? 0), 'SIGTERM');
    await ended;
    expect(messages).toContain('loaded');
    expect(messages.at(-1)).toBe('serving');
  });
});
