// The engine's loop over a device: how much of a decode step is JavaScript that the device waits for.
import { BLOCK_SIZE, loopBlocks, loopRow, type Sampling } from '../bench/engine-loop.ts';
import type { Row } from '../bench/results.ts';
import type { Shape } from '../bench/shapes.ts';
import { parseModelConfig } from '../runtime/model/config.ts';
import { dummyWeights } from '../runtime/model/dummy-weights.ts';
import { InternVL } from '../runtime/model/internvl.ts';
import { partition, type Quantization } from '../runtime/model/partition.ts';
import type { Native } from '../runtime/native/index.ts';

export interface LoopBenchOptions {
  readonly shape: Shape;
  /** What rows call it. */
  readonly name: string;
  readonly quantization: Quantization;
  readonly batches: readonly number[];
}

const SAMPLING: readonly (readonly [name: string, Sampling])[] = [
  ['greedy', { temperature: 0, topP: 1 }],
  ['temperature 1, top-p 0.9', { temperature: 1, topP: 0.9 }],
];

/** Recorded steps, launched ahead where the device can, as a rank runs them. */
export async function benchLoop(ops: Native, options: LoopBenchOptions): Promise<Row[]> {
  const { shape, name, quantization, batches } = options;
  const config = parseModelConfig(shape);
  const maxSequences = Math.max(...batches);
  const kvBlocks = loopBlocks(maxSequences);
  const { kind, graphs } = ops.deviceInfo();
  const model = new InternVL(
    ops,
    config,
    dummyWeights(ops, partition(config, 0, 1, 'bfloat16', quantization)),
    {
      rank: 0,
      worldSize: 1,
      dtype: 'bfloat16',
      kvCache: { blocks: kvBlocks, blockSize: BLOCK_SIZE, maxModelLength: 4096 },
      runsAhead: kind === 'cuda' ? { maxSequences, maxBatchedTokens: 2048 } : undefined,
      decodeGraphs: graphs ? { maxSequences } : undefined,
    },
  );
  model.warmUp(() => performance.now());
  const rows: Row[] = [];
  for (const [sampling, params] of SAMPLING)
    for (const batch of batches)
      rows.push(await loopRow(model, kvBlocks, batch, params, `${name}, ${sampling}`));
  model.close();
  return rows;
}
