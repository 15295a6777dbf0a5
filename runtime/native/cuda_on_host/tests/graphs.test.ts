// Recorded calls and faults of a device as JavaScript sees them.
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { beforeEach, describe, expect, it } from 'vitest';
import { drawsTensor } from '../../../../test/support/logits.ts';
import { tensor } from '../../../../test/support/native-tensors.ts';
import { native } from '../../index.ts';
import type { Tensor } from '../../index.ts';

const ops = native();

beforeEach(() => ops.release(0));

const values = (x: Tensor) => [...ops.readFloat32(x)];

describe('recorded calls', () => {
  it('compute from what their tensors hold when they are launched', () => {
    const x = tensor('float32', [2, 3], [1, 5, 2, 7, 0, 1]);
    const ids = tensor('int32', [1, 2], [0, 0]);
    ops.beginGraph();
    const gathered = ops.gatherRows(x, ops.indices(Int32Array.of(1, 0, 1)));
    const best = ops.chooseTokens(gathered, 3, ops.indices(new Int32Array(8 * 3)));
    const graph = ops.endGraph([gathered, best]);
    expect(values(ids)).toEqual([0, 0]);
    for (const [row, expected] of [
      [
        [9, 9, 9],
        [0, 1, 0],
      ],
      [
        [0, 0, 4],
        [2, 1, 2],
      ],
    ] as const) {
      ops.release(0);
      ops.write(x, 12, new Uint8Array(Float32Array.from(row).buffer));
      const [rows, tokens] = ops.launchGraph(graph);
      expect(values(rows!)).toEqual([...row, 1, 5, 2, ...row]);
      expect(values(tokens!)).toEqual(expected);
    }
    ops.release(0);
    ops.freeGraph(graph);
    expect(() => ops.launchGraph(graph)).toThrow('launchGraph: graph was freed, or never was one');
    ops.free(x);
    ops.free(ids);
  });

  it('draw tokens as the draws say that were uploaded before the launch', () => {
    const x = tensor('float32', [2, 3], [0, 5, 5, 0, 5, 5]);
    const draws = (...shares: readonly number[]) =>
      drawsTensor(shares.map((share) => ({ temperature: share === 0 ? 0 : 1, topK: 2, topP: 1, share })));
    const recorded = draws(0, 0);
    ops.beginGraph();
    const graph = ops.endGraph([ops.chooseTokens(x, 3, recorded)]);
    for (const [shares, expected] of [
      [
        [0, 0.9],
        [1, 2],
      ],
      [
        [0.8, 0.2],
        [2, 1],
      ],
      [
        [0, 0],
        [1, 1],
      ],
    ] as const) {
      ops.release(0);
      draws(...shares);
      expect(values(ops.launchGraph(graph)[0]!)).toEqual(expected);
    }
    ops.release(0);
    ops.freeGraph(graph);
    ops.free(x);
  });

  it('may not read results, and can be recorded again afterwards', () => {
    const x = tensor('float32', [1, 2], [1, 2]);
    ops.beginGraph();
    expect(() => values(x)).toThrow(/^readFloat32: download: .*capturing/);
    expect(() => ops.endGraph([])).toThrow(/^endGraph: cudaStreamEndCapture: .*previous error/);
    expect(values(x)).toEqual([1, 2]);
    ops.beginGraph();
    ops.gelu(x);
    const graph = ops.endGraph([]);
    expect(values(x)).toEqual([1, 2]);
    expect(ops.launchGraph(graph)).toEqual([]);
    expect(values(x)[0]).toBeCloseTo(0.8413, 4);
    ops.freeGraph(graph);
    ops.free(x);
  });
});

describe('a device', () => {
  it('is said to be one', () => {
    expect(ops.deviceInfo()).toMatchObject({ kind: 'cuda', capability: '9.0', graphs: true });
  });

  it('computes for several threads', async () => {
    const script = new URL('./device-and-cpu.ts', import.meta.url);
    const threads = [1, 2, 3].map(() => new Worker(script, { workerData: 'cuda' }));
    const one = { dtype: 'bfloat16', rows: 20, width: 333, seed: 4 };
    const answers = await Promise.all(
      threads.map(async (thread) => {
        const answer = once(thread, 'message');
        thread.postMessage(one);
        return (await answer)[0] as [string, Float32Array][];
      }),
    );
    for (const answer of answers) expect(answer).toEqual(answers[0]);
    await Promise.all(threads.map((thread) => thread.terminate()));
  });

  // The last one: a device does not recover from a fault in its process.
  it('says what it broke with, and no call on it crashes from then on', () => {
    const x = tensor('float32', [1, 2], [1, 2]);
    process.env['CUDA_ON_HOST_FAIL_LAUNCH'] = 'next';
    ops.gelu(x);
    expect(() => values(x)).toThrow(/^readFloat32: download: .*told to fail \(cudaErrorLaunchFailure\)$/);
    expect(() => ops.gelu(x)).toThrow(/^gelu: .*told to fail/);
    expect(() => ops.allocate('float32', [4])).toThrow(/^allocate: /);
    ops.free(x);
  });
});
