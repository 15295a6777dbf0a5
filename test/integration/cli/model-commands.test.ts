// Commands that read a checkpoint themselves.
import { copyFile, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { runCli } from './run-cli.ts';

const TINY = fileURLToPath(new URL('../../fixtures/checkpoints/tiny', import.meta.url));
const PICTURE = fileURLToPath(new URL('../../../examples/pictures/shapes.png', import.meta.url));

let directory: string;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'internvl-model-'));
  await copyFile(join(TINY, 'config.json'), join(directory, 'config.json'));
});

afterAll(async () => {
  await rm(directory, { recursive: true, force: true });
});

describe('internvl tokenize and detokenize', () => {
  it('are each other’s inverse, by flag and by standard input', async () => {
    const text = 'Grüße, <img> 世界\n';
    const byFlag = await runCli(['tokenize', '--model', TINY, '--text', text, '--json']);
    const byStdin = await runCli(['tokenize', '--model', TINY, '--stdin', '--json'], text);
    expect(byFlag).toMatchObject({ code: 0, stderr: '' });
    expect(byStdin.stdout).toBe(byFlag.stdout);
    const { tokenIds } = JSON.parse(byFlag.stdout) as { tokenIds: number[] };
    const back = await runCli(['detokenize', '--model', TINY, '--ids', tokenIds.join(','), '--json']);
    expect(JSON.parse(back.stdout)).toEqual({ text });
    const plain = await runCli(['tokenize', '--model', TINY, '--text', text]);
    expect((await runCli(['detokenize', '--model', TINY, '--stdin'], plain.stdout)).stdout).toBe(`${text}\n`);
  });

  it('make control tokens only when asked', async () => {
    const ids = async (...flags: string[]) =>
      (
        JSON.parse(
          (await runCli(['tokenize', '--model', TINY, '--text', '<|im_end|>', '--json', ...flags])).stdout,
        ) as {
          tokenIds: number[];
        }
      ).tokenIds;
    expect((await ids('--parse-control')).length).toBeLessThan((await ids()).length);
  });

  it.each([
    ['both inputs', ['tokenize', '--text', 'x', '--stdin'], /not both/],
    ['no input', ['tokenize'], /give --text or --stdin/],
    ['ids that are none', ['detokenize', '--ids', '1,x'], /must be whole numbers/],
    ['an id beyond the vocabulary', ['detokenize', '--ids', '5000'], /5000 is not in the vocabulary of 1009/],
  ])('refuse %s', async (_, [command = '', ...flags], message) => {
    const { code, stderr } = await runCli([command, '--model', TINY, ...flags]);
    expect(code).toBe(2);
    expect(stderr).toMatch(message);
  });

  it('refuse a directory without a tokenizer', async () => {
    const { code, stderr } = await runCli(['tokenize', '--model', directory, '--text', 'x']);
    expect(code).toBe(2);
    expect(stderr).toContain('has no tokenizer.model');
  });
});

describe('internvl preprocess', () => {
  it('writes height x width x 3 bytes', async () => {
    const out = join(directory, 'picture.rgb');
    const result = await runCli([
      'preprocess',
      '--model',
      directory,
      '--image',
      PICTURE,
      '--out',
      out,
      '--json',
    ]);
    expect(result).toMatchObject({ code: 0, stderr: '' });
    expect(JSON.parse(result.stdout)).toEqual({ height: 448, width: 448, channels: 3 });
    expect((await readFile(out)).length).toBe(448 * 448 * 3);
  });

  it('refuses what is no picture', async () => {
    const config = join(directory, 'config.json');
    const { code, stderr } = await runCli([
      'preprocess',
      '--model',
      directory,
      '--image',
      config,
      '--out',
      '/dev/null',
    ]);
    expect(code).toBe(1);
    expect(stderr).toMatch(/internvl preprocess: .*(type|picture)/);
  });
});

describe('internvl inspect', () => {
  it('needs only config.json', async () => {
    const result = await runCli(['inspect', '--model', directory, '--tensor-parallel-size', '2', '--json']);
    expect(result).toMatchObject({ code: 0, stderr: '' });
    expect(JSON.parse(result.stdout)).toMatchObject({ worldSize: 2, visionHeads: { real: 5, padded: 6 } });
    const plain = await runCli(['inspect', '--model', directory]);
    expect(plain.stdout).toContain('vocabulary     1009, no padding');
    expect(plain.stdout).not.toContain('\u001b');
  });

  it('refuses a directory without one', async () => {
    const { code, stderr } = await runCli(['inspect', '--model', tmpdir()]);
    expect(code).toBe(2);
    expect(stderr).toContain('has no config.json');
  });
});
