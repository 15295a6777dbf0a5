// The CUDA backend against the CPU's, over shapes that the tests with plain references leave out.
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { afterAll, describe, expect, it } from 'vitest';
import { seeded } from '../../../../test/support/seeded-values.ts';
import { native } from '../../index.ts';
import { results } from './device-and-cpu.ts';
import type { Case } from './device-and-cpu.ts';

const ops = native();
const cpu = new Worker(new URL('./device-and-cpu.ts', import.meta.url), { workerData: 'cpu' });
afterAll(() => cpu.terminate());

async function onCpu(one: Case): Promise<[string, Float32Array][]> {
  const answer = once(cpu, 'message') as Promise<[[string, Float32Array][]]>;
  cpu.postMessage(one);
  return (await answer)[0];
}

/** These sum or take exponentials in their own order or way; everything else is the same to the bit. */
const approximate = new Set([
  'rmsNorm',
  'rmsNorm, other weight',
  'addRmsNorm',
  'addRmsNorm with a scale',
  'layerNorm',
  'qkSumSquares',
  'siluMul',
  'gelu',
]);

function compare(name: string, one: Case, device: Float32Array, host: Float32Array): void {
  expect(device.length, name).toBe(host.length);
  // Values that differ in float32's last bits may round to neighbours: twice, where products are rounded too.
  const tolerance = approximate.has(name) ? (one.dtype === 'bfloat16' ? 2 ** -6 : 1e-5) : 0;
  for (let i = 0; i < host.length; i++) {
    const [got, want] = [device[i]!, host[i]!];
    if (!(Math.abs(got - want) <= tolerance * (Math.abs(want) + 0.1)))
      expect.fail(`${name} of ${JSON.stringify(one)}: element ${i} is ${got}, ${want} on the CPU`);
  }
}

const next = seeded(5);
const upTo = (limit: number) => Math.floor(((next() + 1) / 2) * limit);
const dtypes = ['float32', 'bfloat16'] as const;
const cases: Case[] = [
  // One row, and widths of the model's: 7,168 and 3,200; more than a block's threads take at once; the vocabulary.
  ...dtypes.flatMap((dtype) =>
    [1, 2, 7, 8, 9, 255, 256, 257, 1024, 1032, 3200, 7168, 8200, 9001].map((width) => ({
      dtype,
      rows: 1,
      width,
    })),
  ),
  { dtype: 'bfloat16' as const, rows: 3, width: 64_007 },
  { dtype: 'float32' as const, rows: 2, width: 64_007 },
  ...Array.from({ length: 24 }, (_, i) => ({
    dtype: dtypes[i % 2]!,
    rows: 1 + upTo(40),
    width: 1 + upTo(700),
  })),
].map((one, seed) => ({ ...one, seed }));

describe('the device computes what the CPU does', () => {
  it.each(cases)('$dtype [$rows, $width]', async (one) => {
    const expected = await onCpu(one);
    const got = results(ops, one);
    expect(got.map(([name]) => name)).toEqual(expected.map(([name]) => name));
    got.forEach(([name, values], i) => compare(name, one, values, expected[i]![1]));
  });
});
