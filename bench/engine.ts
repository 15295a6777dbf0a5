// Forward passes of one rank, without scheduler or sockets: decode and prefill over a paged cache, and the encoding of one picture.
import { availableParallelism } from 'node:os';
import type { Quantization } from '../runtime/model/partition.ts';
import type { WeightDType } from '../runtime/model/tensor-plan.ts';
import { ModelUnderTest } from './model-under-test.ts';
import { readBandwidth } from './read-bandwidth.ts';
import type { Row } from './results.ts';
import { SMALL_MODEL } from './shapes.ts';

const CONTEXT = 512;

/** Median seconds of `run`, after one warm-up. */
function medianSeconds(rounds: number, run: () => void): number {
  run();
  const times = Array.from({ length: rounds }, () => {
    const begin = performance.now();
    run();
    return (performance.now() - begin) / 1000;
  });
  return times.toSorted((a, b) => a - b)[Math.floor(rounds / 2)] as number;
}

/** Measures one dtype on all cores. */
export function benchEngine(dtype: WeightDType, quantization: Quantization): Row[] {
  const model = new ModelUnderTest(SMALL_MODEL, { dtype, quantization, threads: availableParallelism() });
  const rows: Row[] = [];
  const shape = `0.3B Llama, ${dtype}${quantization === 'none' ? '' : `, ${quantization} weights`}`;
  for (const sequences of [1, 8, 32]) {
    const before = readBandwidth();
    const seconds = medianSeconds(9, model.decode(sequences, CONTEXT));
    const bandwidth = (before + readBandwidth()) / 2;
    rows.push({
      metric: `decode, batch ${sequences}`,
      shape,
      unit: 'tokens/s',
      value: sequences / seconds,
      limit: sequences / (model.decodeBytes(sequences, CONTEXT) / bandwidth),
      limitOf: 'read bandwidth',
    });
  }
  const prefill = medianSeconds(5, model.prefill(512));
  rows.push({
    metric: 'prefill, 512 tokens',
    shape,
    unit: 'tokens/s',
    value: 512 / prefill,
    limit: 512 / medianSeconds(5, model.prefillProducts(512)),
    limitOf: 'its matrix products alone',
  });
  // The vision part is never quantized.
  if (quantization === 'none') {
    const encode = medianSeconds(3, () => model.encodeImage());
    rows.push({
      metric: 'image encode, 1 layer of InternViT-6B + projector',
      shape: `3200 wide, 25 heads, ${dtype}`,
      unit: 'ms',
      value: encode * 1000,
      limit: 1000 * medianSeconds(3, model.imageProducts()),
      least: true,
      limitOf: 'its matrix products alone',
    });
  }
  model.close();
  return rows;
}
