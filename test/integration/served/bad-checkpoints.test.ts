// Checkpoints that cannot be served, given to `internvl generate --model`: it says which file and which tensor, ends, and leaves no process.

import { chmod, cp, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { FIXTURES } from '../../support/served.ts';
import { goldenAnswer } from '../../support/served-golden.ts';
import { runCli, type CliResult } from '../cli/run-cli.ts';

const SHARD = 'model-00002-of-00003.safetensors';

let directory: string;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'internvl-checkpoint-'));
  await cp(join(FIXTURES, 'checkpoints/tiny'), directory, { recursive: true });
  await chmod(directory, 0o755);
  for (const file of await readdir(directory)) await chmod(join(directory, file), 0o644);
});

afterEach(async () => {
  await rm(directory, { recursive: true, force: true });
});

async function generate(model: string, ...flags: string[]): Promise<CliResult> {
  const common = ['--dtype', 'float32', '--temperature', '0'];
  return await runCli(['generate', '--model', model, ...common, ...flags]);
}

/** Ids of processes that have this text on their command line. */
async function processesWith(text: string): Promise<string[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name));
  const found = await Promise.all(
    pids.map(async (pid) => (await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')).includes(text)),
  );
  return pids.filter((_, index) => found[index]);
}

type Header = Record<string, { dtype: string; shape: number[]; data_offsets: [number, number] }>;

/** Changes the JSON header of a shard, its data left as it is. */
async function editHeader(edit: (header: Header) => string | void): Promise<void> {
  const path = join(directory, SHARD);
  const bytes = await readFile(path);
  const length = Number(bytes.readBigUInt64LE());
  const header = JSON.parse(bytes.toString('utf8', 8, 8 + length)) as Header;
  const json = Buffer.from(edit(header) ?? JSON.stringify(header));
  const size = Buffer.alloc(8);
  size.writeBigUInt64LE(BigInt(json.length));
  await writeFile(path, Buffer.concat([size, json, bytes.subarray(8 + length)]));
}

const EMBEDDING = 'language_model.model.embed_tokens.weight';

async function editConfig(edit: (config: Record<string, Record<string, unknown>>) => void): Promise<void> {
  const path = join(directory, 'config.json');
  const config = JSON.parse(await readFile(path, 'utf8')) as Record<string, Record<string, unknown>>;
  edit(config);
  await writeFile(path, JSON.stringify(config));
}

const BAD: readonly (readonly [string, () => Promise<void>, RegExp])[] = [
  [
    'a missing tensor',
    () => editHeader((header) => void delete header[EMBEDDING]),
    /model-00002-of-00003\.safetensors: tensor .*embed_tokens\.weight is missing/,
  ],
  [
    'a tensor of a wrong shape',
    () => editHeader((header) => void (header[EMBEDDING]!.shape = [112, 1009])),
    /embed_tokens\.weight has shape \[112, 1009\]; config\.json calls for \[1009, 112\]/,
  ],
  [
    'an offset past the end',
    () => editHeader((header) => void (header[EMBEDDING]!.data_offsets = [1e9, 1e9 + 226016])),
    /embed_tokens\.weight ends at byte 1000226016/,
  ],
  [
    'NaN in a header',
    () =>
      editHeader((header) => JSON.stringify(header).replace(/"data_offsets":\[\d+/, '"data_offsets":[NaN')),
    /model-00002-of-00003\.safetensors: has a header that is not JSON/,
  ],
  [
    'an unknown dtype',
    () => editHeader((header) => void (header[EMBEDDING]!.dtype = 'Q4_K')),
    /embed_tokens\.weight has the unknown dtype "Q4_K"/,
  ],
  [
    'a configuration that contradicts itself',
    () => editConfig((config) => void (config['llm_config']!['num_attention_heads'] = 13)),
    /config\.json: llm_config\.num_key_value_heads is 2; it must divide llm_config\.num_attention_heads \(13\)/,
  ],
];

describe('a checkpoint with', () => {
  it.each(BAD)('%s is refused by name', async (_, spoil, message) => {
    await spoil();
    const { code, stdout, stderr } = await generate(
      directory,
      '--tensor-parallel-size',
      '2',
      '--prompt',
      'hi',
    );
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(stderr).toMatch(message);
    expect(await processesWith(directory)).toEqual([]);
    await rm(/all logs are in (\S+)/.exec(stderr)![1]!, { recursive: true });
  });
});

describe('a tensor-parallel size', () => {
  it('that does not divide the model is refused, naming those that do', async () => {
    const { code, stderr } = await generate(directory, '--tensor-parallel-size', '4', '--prompt', 'hi');
    expect(code).toBe(1);
    expect(stderr).toContain(
      "size 4 does not divide the language model's 2 key/value heads (num_key_value_heads); this model can be split into 1, 2",
    );
    expect(await processesWith(directory)).toEqual([]);
    await rm(/all logs are in (\S+)/.exec(stderr)![1]!, { recursive: true });
  });

  it('of 8 works on a machine of few cores, and warns there', async () => {
    const golden = goldenAnswer('small-tp', 'text_hello');
    const { code, stdout, stderr } = await generate(
      join(FIXTURES, 'checkpoints/small-tp'),
      '--json',
      '--tensor-parallel-size',
      '8',
      '--prompt',
      golden.prompt.text,
      '--max-tokens',
      '4',
    );
    expect(code).toBe(0);
    expect((JSON.parse(stdout) as { tokenIds: number[] }).tokenIds).toEqual(golden.tokenIds.slice(0, 4));
    const cores = availableParallelism();
    expect(stderr).toBe(
      cores < 8 ? `8 ranks of a replica share ${cores} cores: it works, but slower than with ${cores}\n` : '',
    );
  });
});
