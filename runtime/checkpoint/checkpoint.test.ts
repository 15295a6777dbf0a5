import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { CheckpointError } from './checkpoint-error.ts';
import { openCheckpoint, readModelConfig } from './checkpoint.ts';
import { ConfigError } from '../model/config.ts';

const TINY = fileURLToPath(new URL('../../test/fixtures/checkpoints/tiny', import.meta.url));
const SHARD_2 = 'model-00002-of-00003.safetensors';
const INDEX = 'model.safetensors.index.json';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'checkpoint-'));
  cpSync(TINY, directory, { recursive: true });
});
afterEach(() => rmSync(directory, { recursive: true }));

interface Index {
  metadata: { total_size: number };
  weight_map: Record<string, string>;
}

function readIndex(): Index {
  return JSON.parse(readFileSync(join(directory, INDEX), 'utf8')) as Index;
}

function writeIndex(change: (weightMap: Record<string, string>) => void): void {
  const index = readIndex();
  change(index.weight_map);
  writeFileSync(join(directory, INDEX), JSON.stringify(index));
}

function writeSafetensors(file: string, header: object, dataBytes: number): void {
  const json = Buffer.from(JSON.stringify(header));
  const prefix = Buffer.alloc(8);
  prefix.writeBigUInt64LE(BigInt(json.length));
  writeFileSync(join(directory, file), Buffer.concat([prefix, json, Buffer.alloc(dataBytes)]));
}

describe('openCheckpoint', () => {
  it('finds every tensor of the shards', () => {
    const checkpoint = openCheckpoint(directory);
    const index = readIndex();
    expect([...checkpoint.tensors.keys()].sort()).toEqual(Object.keys(index.weight_map).sort());
    expect(checkpoint.totalBytes).toBe(index.metadata.total_size);
    expect(checkpoint.config.llm.vocabSize).toBe(1009);
    const tensor = checkpoint.require('language_model.model.embed_tokens.weight', [1009, 112]);
    expect(tensor).toMatchObject({
      file: join(directory, SHARD_2),
      dtype: 'BF16',
      byteLength: 1009 * 112 * 2,
    });
  });

  it('gives equal checkpoints in two directories one fingerprint, and changed ones another', () => {
    const { fingerprint } = openCheckpoint(directory);
    expect(fingerprint).toMatch(/^[0-9a-f]{64}$/);
    expect(openCheckpoint(TINY).fingerprint).toBe(fingerprint);
    const config = readFileSync(join(directory, 'config.json'), 'utf8');
    writeFileSync(join(directory, 'config.json'), config.replace('"Hermes-2"', '"other"'));
    expect(openCheckpoint(directory).fingerprint).not.toBe(fingerprint);
  });

  it('reads a single model.safetensors and ignores rotary frequencies', () => {
    rmSync(join(directory, INDEX));
    writeSafetensors(
      'model.safetensors',
      {
        a: { dtype: 'F32', shape: [2], data_offsets: [0, 8] },
        'model.layers.0.self_attn.rotary_emb.inv_freq': { dtype: 'F32', shape: [1], data_offsets: [8, 12] },
      },
      12,
    );
    const checkpoint = openCheckpoint(directory);
    expect([...checkpoint.tensors.keys()]).toEqual(['a']);
    expect(checkpoint.totalBytes).toBe(8);
  });

  it('reads the configuration of a directory without weights', () => {
    for (const file of readdirSync(directory))
      if (file.includes('safetensors')) rmSync(join(directory, file));
    expect(readModelConfig(directory).vision.numHeads).toBe(5);
    expect(() => openCheckpoint(directory)).toThrow(`neither ${INDEX} nor model.safetensors is there`);
  });

  it.each<[string, () => void, RegExp]>([
    [
      'a missing shard',
      () => rmSync(join(directory, SHARD_2)),
      /model-00002-of-00003\.safetensors: the shard is missing; .*index\.json lists it/,
    ],
    [
      'a truncated shard',
      () => truncateSync(join(directory, SHARD_2), 100_000),
      /model-00002-of-00003\.safetensors: tensor \S+ ends at byte \d+ of the data, but the file has only \d+/,
    ],
    ['a shard cut in its header', () => truncateSync(join(directory, SHARD_2), 100), /is truncated/],
    ['an empty shard', () => truncateSync(join(directory, SHARD_2), 0), /0 bytes long, too short/],
    [
      'a tensor that is not in its shard',
      () => writeIndex((map) => (map['vision_model.extra'] = SHARD_2)),
      /tensor vision_model\.extra is missing; .*index\.json says it is here/,
    ],
    [
      'a shard outside the directory',
      () => writeIndex((map) => (map['extra'] = '../x.safetensors')),
      /mapped to "\.\.\/x\.safetensors", which is not a file name/,
    ],
    ['an index without a map', () => writeFileSync(join(directory, INDEX), '{}'), /has no weight_map/],
    [
      'an index that is not JSON',
      () => writeFileSync(join(directory, INDEX), '{'),
      /index\.json: is not JSON/,
    ],
    [
      'a configuration that is not JSON',
      () => writeFileSync(join(directory, 'config.json'), '{'),
      /config\.json: is not JSON/,
    ],
    ['a missing configuration', () => rmSync(join(directory, 'config.json')), /config\.json: cannot be read/],
  ])('refuses %s', (_name, damage, message) => {
    damage();
    expect(() => openCheckpoint(directory)).toThrow(CheckpointError);
    expect(() => openCheckpoint(directory)).toThrow(message);
  });

  it('refuses a directory that is not there and a model it does not compute', () => {
    expect(() => openCheckpoint(join(directory, 'none'))).toThrow(/none: no such directory/);
    writeFileSync(join(directory, 'config.json'), '{}');
    expect(() => openCheckpoint(directory)).toThrow(ConfigError);
  });
});

describe('Checkpoint.require', () => {
  it('names near tensors when one is missing', () => {
    const checkpoint = openCheckpoint(directory);
    expect(() => checkpoint.require('language_model.model.layers.9.mlp.up_proj.weight', [1])).toThrow(
      /tensor language_model\.model\.layers\.9\.mlp\.up_proj\.weight is missing; near names are language_model\.model\.layers\.0\.mlp\.up_proj\.weight/,
    );
    expect(() => checkpoint.require('elsewhere', [1])).toThrow(/tensor elsewhere is missing$/);
  });

  it('names both shapes when one is wrong', () => {
    const checkpoint = openCheckpoint(directory);
    expect(() => checkpoint.require('language_model.lm_head.weight', [1009, 113])).toThrow(
      /tensor language_model\.lm_head\.weight has shape \[1009, 112\]; config\.json calls for \[1009, 113\]/,
    );
    expect(() => checkpoint.require('language_model.lm_head.weight', [1009])).toThrow(CheckpointError);
  });
});
