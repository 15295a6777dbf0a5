// A rank's weights from a checkpoint in the page cache, against plain reads of the same file by as many threads, in turns: what reading
// itself takes is not the loader's doing. The loader's memory is new, and the system clears it first, which is counted against it; what it
// takes without that, over weights that are there already, is a row of its own.
import { randomFillSync } from 'node:crypto';
import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { openCheckpoint } from '../runtime/checkpoint/checkpoint.ts';
import { parseModelConfig } from '../runtime/model/config.ts';
import { loadWeights, readTensors } from '../runtime/model/loader.ts';
import { partition } from '../runtime/model/partition.ts';
import { elements } from '../runtime/model/tensor-plan.ts';
import { native } from '../runtime/native/index.ts';
import { FileReaders } from './file-readers.ts';
import { modelShape } from './shapes.ts';
import type { Row } from './results.ts';

const ROUNDS = 7;

/** A layer of the 40B: a gigabyte in bfloat16. A rank's share of a row is as long as it will be. */
const SHAPE = modelShape(
  {
    hidden_size: 7168,
    intermediate_size: 20_480,
    num_hidden_layers: 1,
    num_attention_heads: 56,
    num_key_value_heads: 8,
    vocab_size: 1024,
  },
  { hidden_size: 128, intermediate_size: 128, num_attention_heads: 2 },
);

/** Loads the whole model, and half of it as a rank of two does. */
export async function benchWeightsLoading(): Promise<Row[]> {
  const threads = availableParallelism();
  const ops = native();
  ops.setThreads(threads);
  const directory = mkdtempSync(join(tmpdir(), 'internvl-bench-'));
  const readers = new FileReaders(threads);
  try {
    const file = writeCheckpoint(directory);
    const checkpoint = openCheckpoint(directory);
    await readers.bytesPerSecond(file);
    const rows: Row[] = [];
    for (const worldSize of [1, 2]) {
      const plans = partition(checkpoint.config, 0, worldSize, 'bfloat16');
      const loads: number[] = [];
      const again: number[] = [];
      const reads: number[] = [];
      for (let round = 0; round < ROUNDS; round++) {
        reads.push(await readers.bytesPerSecond(file));
        let begin = performance.now();
        const weights = loadWeights(ops, checkpoint, plans);
        loads.push((weights.bytes * 1000) / (performance.now() - begin));
        begin = performance.now();
        readTensors(ops, checkpoint, plans, ({ name }) => weights.get(name));
        again.push((weights.bytes * 1000) / (performance.now() - begin));
        weights.free();
      }
      for (const [metric, rates] of [
        ['weights loading, from the page cache', loads],
        ['weights loading, from the page cache, into memory in use', again],
      ] as const)
        rows.push({
          metric,
          shape: `${(checkpoint.totalBytes / 1e9).toFixed(1)} GB bfloat16, rank 0 of ${worldSize}`,
          unit: 'GB/s',
          value: median(rates) / 1e9,
          limit: median(reads) / 1e9,
          limitOf: 'plain reads into memory in use',
        });
    }
    return rows;
  } finally {
    await readers.close();
    rmSync(directory, { recursive: true });
  }
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1] as number;
}

/** One file with every tensor of the model; returns its path. */
function writeCheckpoint(directory: string): string {
  const tensors = new Map<string, { dtype: string; shape: readonly number[]; data_offsets: number[] }>();
  let end = 0;
  for (const { source, sourceShape: shape } of partition(parseModelConfig(SHAPE), 0, 1, 'bfloat16').flatMap(
    ({ copies }) => copies,
  )) {
    if (tensors.has(source)) continue;
    const begin = end;
    end += 2 * elements(shape);
    tensors.set(source, { dtype: 'BF16', shape, data_offsets: [begin, end] });
  }
  writeFileSync(join(directory, 'config.json'), JSON.stringify(SHAPE));
  const json = Buffer.from(JSON.stringify(Object.fromEntries(tensors)));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  const path = join(directory, 'model.safetensors');
  const file = openSync(path, 'w');
  writeSync(file, length);
  writeSync(file, json);
  const chunk = randomFillSync(Buffer.alloc(8 << 20));
  for (let left = end; left > 0; left -= chunk.length)
    writeSync(file, chunk, 0, Math.min(left, chunk.length));
  closeSync(file);
  return path;
}
