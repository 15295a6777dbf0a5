// Writes checkpoints of any shape with random weights, in the published layout with one float32 file.

import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseModelConfig } from '../../runtime/model/config.ts';
import { partition } from '../../runtime/model/partition.ts';
import { elements } from '../../runtime/model/tensor-plan.ts';
import { seededRandom } from './seeded-random.ts';

export interface SourceTensor {
  readonly shape: readonly number[];
  readonly data: Float32Array;
}

/** Every tensor that a model of this config.json reads: small for matrices, around 1 for norms and layer scale, away from 0 for biases. */
export function randomTensors(config: unknown, seed: number): Map<string, SourceTensor> {
  const random = seededRandom(seed);
  const tensors = new Map<string, SourceTensor>();
  const copies = partition(parseModelConfig(config), 0, 1, 'float32').flatMap((plan) => plan.copies);
  for (const { source, sourceShape: shape } of copies) {
    if (tensors.has(source)) continue;
    const scale = /norm|ls\d|mlp1\.0\.weight/.test(source);
    const columns = elements(shape.slice(1));
    const spread = shape.length > 1 ? 2 / Math.sqrt(columns) : 0.5;
    const data = Float32Array.from(
      { length: elements(shape) },
      () => (scale ? 1 : 0) + spread * (2 * random() - 1),
    );
    tensors.set(source, { shape, data });
  }
  return tensors;
}

/** Writes a checkpoint directory under the system's temporary folder and returns its path; the caller removes it. */
export function writeCheckpoint(config: unknown, tensors: ReadonlyMap<string, SourceTensor>): string {
  const directory = mkdtempSync(join(tmpdir(), 'internvl-checkpoint-'));
  writeFileSync(join(directory, 'config.json'), JSON.stringify(config));
  const header: Record<string, unknown> = {};
  let offset = 0;
  for (const [name, { shape, data }] of tensors) {
    header[name] = { dtype: 'F32', shape, data_offsets: [offset, offset + data.byteLength] };
    offset += data.byteLength;
  }
  const json = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  const parts = [...tensors.values()].map(({ data }) =>
    Buffer.from(data.buffer, data.byteOffset, data.byteLength),
  );
  writeFileSync(join(directory, 'model.safetensors'), Buffer.concat([length, json, ...parts]));
  return directory;
}
