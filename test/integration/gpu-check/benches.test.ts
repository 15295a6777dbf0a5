// What gpu-check measures, on the CPU and on shapes of a few megabytes: that every figure comes, not what it is.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';
import type { Row } from '../../../bench/results.ts';
import { modelShape } from '../../../bench/shapes.ts';
import { benchLoop } from '../../../gpu-check/bench-loop.ts';
import { benchModel } from '../../../gpu-check/bench-model.ts';
import { benchServed } from '../../../gpu-check/bench-served.ts';
import { measureDeviceSpeed } from '../../../gpu-check/device-speed.ts';
import { writeModelDirectory } from '../../../gpu-check/model-directory.ts';
import { gpuSection } from '../../../gpu-check/write-page.ts';
import { native } from '../../../runtime/native/index.ts';

const DEMO = fileURLToPath(new URL('../../../examples/demo-model', import.meta.url));
const TINY = modelShape(
  {
    hidden_size: 64,
    intermediate_size: 128,
    num_hidden_layers: 2,
    num_attention_heads: 4,
    num_key_value_heads: 2,
    vocab_size: 6000,
  },
  { hidden_size: 80, intermediate_size: 160, num_attention_heads: 5 },
);
const folder = mkdtempSync(join(tmpdir(), 'internvl-gpu-check-'));
afterAll(() => rmSync(folder, { recursive: true }));

function expectFigures(rows: readonly Row[]): void {
  for (const { value, limit = 1 } of rows) {
    expect(value).toBeGreaterThanOrEqual(0);
    expect(limit).toBeGreaterThan(0);
    expect(value).toBeLessThan(Infinity);
  }
}

describe('the benches of gpu-check', () => {
  const ops = native();

  it('hold forward passes against what the device does', () => {
    const speed = measureDeviceSpeed(ops, { copyBytes: 1 << 20, productSide: 64 });
    const rows = benchModel(ops, {
      shape: TINY,
      name: 'tiny',
      quantization: 'none',
      speed,
      // The last one's cache fits no machine.
      batches: [1, 4, 2 ** 40],
      context: 40,
      promptTokens: 24,
      questionTokens: 30,
    });
    expectFigures(rows);
    const decodes = rows.filter(({ metric }) => metric.startsWith('decode') && !metric.includes('must read'));
    expect(decodes.map(({ metric }) => metric)).toEqual([
      'decode, batch 1, context 40',
      'decode, batch 4, context 40',
    ]);
    const sum = rows.find(({ metric }) => metric === 'a picture encoded, and 30 tokens of prompt');
    const parts = rows.filter(({ metric }) => ['image encode', 'prefill, 30 tokens'].includes(metric));
    expect(sum?.value).toBeCloseTo(parts.reduce((total, { value }) => total + value, 0));
    expect(sum?.limit).toBeCloseTo(parts.reduce((total, { limit = 0 }) => total + limit, 0));
  });

  it('run the engine over generated weights', async () => {
    const rows = await benchLoop(ops, { shape: TINY, name: 'tiny', quantization: 'int8', batches: [1, 4] });
    expectFigures(rows);
    expect(rows).toHaveLength(4);
  });

  it('serve generated weights through a router, and make a page of what they found', async () => {
    writeModelDirectory(folder, TINY, DEMO);
    const flags = ['--model', folder, '--load-format', 'dummy', '--kv-cache-bytes', String(64 << 20)];
    const rows = await benchServed({
      runtime: flags,
      name: 'tiny',
      durationMs: 2400,
      concurrency: 4,
      say: () => undefined,
    });
    expectFigures(rows);
    const unanswered = rows.filter(({ metric }) => metric === 'served, requests without an answer');
    expect(unanswered.map(({ value }) => value)).toEqual([0, 0]);
    for (const metric of [
      'served, start-up, weights',
      'served, first token, p99',
      'served, between tokens, p50',
    ])
      expect(rows.map((row) => row.metric)).toContain(metric);
    const { name, capability, freeBytes, totalBytes, graphs } = ops.deviceInfo();
    const section = gpuSection([
      { kind: 'machine', cpu: 'a CPU', cores: 2, memoryGiB: 1, node: '24', cards: [], packages: ['torch 2'] },
      { kind: 'device', name, capability, freeBytes, totalBytes, graphs },
      ...rows.map((row) => ({ kind: 'bench', ...row }) as const),
    ]);
    expect(section?.title).toBe(`GPU, ${name}`);
    expect(section?.body.split('\n').filter((line) => line.startsWith('| served'))).toHaveLength(rows.length);
  });
});
