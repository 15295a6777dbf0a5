import { describe, expect, it } from 'vitest';
import { smallConfig } from '../../test/support/model-configs.ts';
import { Checkpoint, type TensorEntry } from '../checkpoint/checkpoint.ts';
import { CheckpointError } from '../checkpoint/checkpoint-error.ts';
import type { Native } from '../native/index.ts';
import { loadWeights, type LoadProgress } from './loader.ts';
import { partition } from './partition.ts';
import { planBytes } from './tensor-plan.ts';

const config = smallConfig();

/** A checkpoint with every tensor that the model needs, in two files that do not exist. */
function checkpointWith(change: (entry: TensorEntry) => TensorEntry | undefined): Checkpoint {
  const entries = new Map<string, TensorEntry>();
  for (const { source, sourceShape } of partition(config, 0, 1, 'float32').flatMap(({ copies }) => copies)) {
    const file = source.startsWith('vision') ? '/a.safetensors' : '/b.safetensors';
    const entry = change({
      name: source,
      file,
      byteOffset: 64 * entries.size,
      byteLength: 4,
      dtype: 'BF16',
      shape: sourceShape,
    });
    if (entry !== undefined) entries.set(source, entry);
  }
  return new Checkpoint('/checkpoint', config, entries, '');
}

/** Remembers what is allocated and opened; fails on the copy of that number. */
function recordingNative(failAtCopy = Infinity) {
  const allocated = new Set<number>();
  const opened = new Set<string>();
  let handles = 0;
  let copies = 0;
  const paths: string[] = [];
  const native = {
    allocate: () => (allocated.add(++handles), handles),
    free: (tensor: number) => void allocated.delete(tensor),
    openFile: (path: string) => (opened.add(path), paths.push(path), paths.length - 1),
    closeFile: (file: number) => void opened.delete(paths[file] ?? ''),
    copyFromFile: () => {
      if (++copies > failAtCopy) throw new Error("copyFromFile: '/a.safetensors' has become shorter");
    },
  };
  return { native: native as unknown as Native, allocated, opened, paths, copies: () => copies };
}

describe('loadWeights', () => {
  const plans = partition(config, 1, 2, 'bfloat16');
  const total = plans.reduce((sum, plan) => sum + planBytes(plan), 0);

  it('copies every rectangle of the plan, opens each file once and closes it', () => {
    const { native, allocated, opened, paths, copies } = recordingNative();
    const weights = loadWeights(
      native,
      checkpointWith((entry) => entry),
      plans,
    );
    expect(copies()).toBe(plans.flatMap((plan) => plan.copies).length);
    expect(paths).toEqual(['/a.safetensors', '/b.safetensors']);
    expect(opened.size).toBe(0);
    expect(allocated.size).toBe(plans.length);
    expect(weights.bytes).toBe(total);
    expect(() => weights.get('vision.layers.9.qkv')).toThrow(/plan has no vision.layers.9.qkv/);
    weights.free();
    expect(allocated.size).toBe(0);
  });

  it('reports bytes up to the total', () => {
    const seen: LoadProgress[] = [];
    loadWeights(
      recordingNative().native,
      checkpointWith((entry) => entry),
      plans,
      (progress) => seen.push(progress),
    );
    expect(seen).toHaveLength(plans.length);
    expect(seen.at(-1)).toEqual({ loadedBytes: total, totalBytes: total });
    expect(seen.every(({ loadedBytes }, i) => i === 0 || loadedBytes > (seen[i - 1]?.loadedBytes ?? 0))).toBe(
      true,
    );
  });

  const oProj = 'language_model.model.layers.1.self_attn.o_proj.weight';
  it.each([
    [
      'a wrong shape, naming both',
      (entry: TensorEntry) => ({ ...entry, shape: [64, 65] }),
      'wrong_shape',
      /o_proj.weight has shape \[64, 65\]; config.json calls for \[64, 64\]/,
    ],
    ['a missing tensor', () => undefined, 'missing_tensor', /tensor .*o_proj.weight is missing/],
    [
      'a type that weights cannot have',
      (entry: TensorEntry) => ({ ...entry, dtype: 'I8' as const }),
      'unsupported_dtype',
      /o_proj.weight is I8; weights are read as BF16, F16, F32/,
    ],
  ])('refuses %s before it allocates anything', (_, change, code, message) => {
    const { native, allocated, paths } = recordingNative();
    const checkpoint = checkpointWith((entry) => (entry.name === oProj ? change(entry) : entry));
    let error: unknown;
    try {
      loadWeights(native, checkpoint, plans);
    } catch (caught) {
      error = caught;
    }
    expect(error).toBeInstanceOf(CheckpointError);
    expect(error).toMatchObject({ code, message: expect.stringMatching(message) as string });
    expect([allocated.size, paths.length]).toEqual([0, 0]);
  });

  it('keeps nothing allocated or opened when a copy fails half-way', () => {
    const { native, allocated, opened } = recordingNative(9);
    const checkpoint = checkpointWith((entry) => entry);
    expect(() => loadWeights(native, checkpoint, plans)).toThrow(
      expect.objectContaining({
        name: 'CheckpointError',
        code: 'unreadable_file',
        message: expect.stringMatching(
          /^tensor vision_model\..* cannot be read: .*\/a.safetensors/,
        ) as string,
      }) as Error,
    );
    expect([allocated.size, opened.size]).toEqual([0, 0]);
  });
});
