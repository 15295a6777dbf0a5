import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import type { EngineInfo } from '../gen/proto/internvl/engine/v1/engine.ts';
import { ModelRegistry, presentModel } from './model-registry.ts';
import type { ServedModel, TokenizerFiles } from './models.ts';

const CHECKPOINT = fileURLToPath(new URL('../test/fixtures/checkpoints/tiny/', import.meta.url));

const INFO: EngineInfo = {
  model: 'tiny',
  dtype: 'float32',
  tensorParallelSize: 1,
  maxModelLength: 4096,
  vocabSize: 500,
  blockSize: 16,
  kvBlocks: 10,
  maxSequences: 4,
  imageTokens: 256,
  maxImages: 4,
  imageTokenId: 1,
  tokenizerFingerprint: 'tok',
  modelFingerprint: 'mod',
  maxImageBytes: 1,
  maxImagePixels: 1,
  version: '',
};

function files(): Promise<TokenizerFiles> {
  const names = [
    'tokenizer.model',
    'added_tokens.json',
    'tokenizer_config.json',
    'special_tokens_map.json',
    'config.json',
  ];
  return Promise.resolve(new Map(names.map((name) => [name, readFileSync(`${CHECKPOINT}${name}`)])));
}

describe('ModelRegistry', () => {
  it("takes the first replica's model, fetches its files once, and keeps others out", async () => {
    const adopted: unknown[] = [];
    const registry = new ModelRegistry(
      () => 0,
      (model) => adopted.push(model),
    );
    let fetches = 0;
    const fetch = (): Promise<TokenizerFiles> => {
      fetches++;
      return files();
    };
    const [first, second, odd] = await Promise.all([
      registry.admit('a', INFO, fetch),
      registry.admit('b', INFO, fetch),
      registry.admit('c', { ...INFO, modelFingerprint: 'x' }, fetch),
    ]);
    expect([fetches, adopted.length]).toEqual([1, 1]);
    expect(second).toBe(first);
    expect(odd).toMatch(/another model/);
    expect(registry.current).toBe(first);
  });

  it("tries the next replica when the first one's files cannot be used", async () => {
    const registry = new ModelRegistry(
      () => 0,
      () => undefined,
    );
    const broken = expect(registry.admit('a', INFO, () => Promise.resolve(new Map()))).rejects.toThrow(
      'tokenizer.model',
    );
    const good = registry.admit('b', INFO, files);
    await broken;
    expect(await good).toBe(registry.current);
  });

  it('lets another model take over only when nobody has served the old one for a while', async () => {
    let now = 0;
    const registry = new ModelRegistry(
      () => now,
      () => undefined,
    );
    const other = { ...INFO, modelFingerprint: 'x' };
    await registry.admit('a', INFO, files);
    expect(await registry.admit('b', other, files)).toMatch(/another model/);
    registry.release('a');
    now = 29_000;
    expect([registry.orphaned, typeof (await registry.admit('b', other, files))]).toEqual([false, 'string']);
    now = 31_000;
    expect(registry.orphaned).toBe(true);
    expect(await registry.admit('b', other, files)).toBe(registry.current);
    expect(registry.current?.info.modelFingerprint).toBe('x');
    expect(await registry.admit('a', INFO, files)).toMatch(/another model/);
  });

  it('keeps the model when its replica comes back in time', async () => {
    let now = 0;
    const registry = new ModelRegistry(
      () => now,
      () => undefined,
    );
    await registry.admit('a', INFO, files);
    registry.release('a');
    now = 20_000;
    await registry.admit('a', INFO, files);
    now = 90_000;
    expect(registry.orphaned).toBe(false);
  });
});

describe('ModelRegistry of two models', () => {
  const other = { ...INFO, modelFingerprint: 'x' };
  const third = { ...INFO, modelFingerprint: 'y' };

  function registryWith(used: Set<ServedModel>) {
    return new ModelRegistry(
      () => 0,
      () => undefined,
      { mostModels: 2, inUse: (model) => used.has(model) },
    );
  }

  it('serves both while both have replicas, and no third', async () => {
    const registry = registryWith(new Set());
    const first = await registry.admit('a', INFO, files);
    const second = await registry.admit('b', other, files);
    expect(second).not.toBe(first);
    expect(registry.models).toEqual([first, second]);
    expect(await registry.admit('c', third, files)).toMatch(/another model/);
    registry.prune();
    expect(registry.models).toEqual([first, second]);
  });

  it('lets go of the old one when neither a replica nor a request has it, and then takes a third', async () => {
    const used = new Set<ServedModel>();
    const registry = registryWith(used);
    const first = (await registry.admit('a', INFO, files)) as ServedModel;
    const second = await registry.admit('b', other, files);
    used.add(first);
    registry.release('a');
    registry.prune();
    expect([registry.models, registry.hasRoom]).toEqual([[first, second], false]);
    used.delete(first);
    registry.prune();
    expect([registry.models, registry.hasRoom]).toEqual([[second], true]);
    expect(await registry.admit('c', third, files)).toBe(registry.current);
  });

  it('keeps them while nobody serves any', async () => {
    const registry = registryWith(new Set());
    await registry.admit('a', INFO, files);
    await registry.admit('b', other, files);
    registry.release('a');
    registry.release('b');
    registry.prune();
    expect(registry.models).toHaveLength(2);
  });
});

describe('presentModel', () => {
  it.each<[string, Record<string, number>, string | undefined]>([
    ['nothing known', {}, undefined],
    ['one without replicas', { old: 0 }, 'old'],
    ['most ready', { old: 2, new: 1 }, 'old'],
    ['as many of the new', { old: 1, new: 1 }, 'new'],
    ['none ready', { old: 0, new: 0 }, 'new'],
    ['only the old ready', { old: 1, new: 0 }, 'old'],
  ])('%s', (_, ready, expected) => {
    expect(presentModel(Object.keys(ready), (model) => ready[model]!)).toBe(expected);
  });
});
