import { describe, expect, it } from 'vitest';
import type { Batch } from '../engine/batch.ts';
import { StepInputs } from '../engine/step-inputs.ts';
import { native } from '../native/index.ts';
import type { Graph, Native, Tensor } from '../native/index.ts';
import type { BatchIndices } from './batch-indices.ts';
import { DecodeGraphs, graphSizes, isDecode } from './decode-graphs.ts';

const OPTIONS = { maxSequences: 12, maxModelLength: 10, blockSize: 4, spareBlock: 7 };

/** A device that records: what is written down is done at the launch, each time with the values of the moment. */
class RecordingDevice {
  readonly calls: string[] = [];
  readonly #graphs = new Map<number, { readonly run: () => Tensor[] }>();
  readonly native: Native;
  /** Values by tensor, as the device would see them. */
  readonly seen: number[][] = [];

  constructor() {
    const ops = native();
    this.native = {
      ...ops,
      beginGraph: () => void this.calls.push('begin'),
      endGraph: (results) => {
        this.calls.push(`end with ${results.length}`);
        const shapes = results.map((tensor) => ops.shape(tensor));
        const graph = this.#graphs.size + 1;
        this.#graphs.set(graph, {
          run: () => shapes.map(([rows = 0, columns = 0]) => ops.scratch('float32', rows, columns)),
        });
        return graph as Graph;
      },
      launchGraph: (graph) => {
        this.calls.push(`launch ${graph}`);
        return this.#graphs.get(graph)?.run() ?? [];
      },
      tune: (on) => this.calls.push(`tune ${on}`),
      freeGraph: (graph) => void this.calls.push(`free ${graph}`),
    };
  }
}

function decode(sequences: number): Batch {
  const each = (f: (s: number) => number) => Int32Array.from({ length: sequences }, (_, s) => f(s));
  const inputs = new StepInputs(sequences, sequences);
  inputs.ids.set(each((s) => 100 + s));
  inputs.draws.fill(0.5);
  return {
    step: 3,
    numTokens: sequences,
    numSequences: sequences,
    inputs,
    positions: each(() => 4),
    slots: each((s) => 8 * s),
    queryStart: Int32Array.from({ length: sequences + 1 }, (_, s) => s),
    contextLengths: each(() => 5),
    blockTables: Int32Array.from({ length: 2 * sequences }, (_, i) => i),
    maxBlocks: 2,
    logitRows: each((s) => s),
    imageRows: [],
  };
}

describe('graphSizes', () => {
  it.each([
    [1, [1]],
    [3, [1, 2, 3]],
    [8, [1, 2, 4, 8]],
    [30, [1, 2, 4, 8, 16, 24, 30]],
  ])('of up to %i sequences', (most, sizes) => expect(graphSizes(most)).toEqual(sizes));
});

describe('isDecode', () => {
  const step = decode(2);
  it.each<[string, Batch, boolean]>([
    ['one token of each sequence', step, true],
    ['no sequences', decode(0), false],
    ['a sequence with more tokens', { ...step, numTokens: 3 }, false],
    ['a row whose logits nobody wants', { ...step, logitRows: Int32Array.of(1) }, false],
    ['a picture’s rows', { ...step, imageRows: [{ image: 0, sourceRow: 0, targetRow: 1, count: 1 }] }, false],
  ])('%s', (_, batch, expected) => expect(isDecode(batch)).toBe(expected));
});

describe('DecodeGraphs', () => {
  function make() {
    const device = new RecordingDevice();
    const ops = device.native;
    const computed: number[][] = [];
    const graphs = new DecodeGraphs(ops, OPTIONS, (indices: BatchIndices) => {
      computed.push([indices.numLogits]);
      for (const name of ['inputIds', 'positions', 'slots', 'contextLengths', 'blockTables'] as const)
        device.seen.push([...ops.readFloat32(indices[name])]);
      const words = Int32Array.from(ops.readFloat32(indices.draws));
      device.seen.push([...new Float64Array(words.buffer)]);
      return [ops.scratch('float32', indices.numLogits, 5), ops.scratch('float32', 1, indices.numLogits)];
    });
    return { device, ops, graphs, computed };
  }

  it('pads to the next size with tokens that go to the spare block', () => {
    const { device, ops, graphs } = make();
    ops.release(0);
    const [logits, chosen] = graphs.run(decode(3));
    expect(ops.shape(logits)).toEqual([4, 5]);
    expect(ops.shape(chosen)).toEqual([1, 4]);
    expect(device.seen).toEqual([
      [100, 101, 102, 0],
      [4, 4, 4, 0],
      [0, 8, 16, 28],
      [5, 5, 5, 1],
      [0, 1, 7, 2, 3, 7, 4, 5, 7, 7, 7, 7],
      [...Array<number>(12).fill(0.5), 0, 0, 0, 0],
    ]);
    ops.release(0);
  });

  it('records a size once and launches it from then on', () => {
    const { device, ops, graphs, computed } = make();
    for (const sequences of [3, 4, 3, 1]) {
      ops.release(0);
      graphs.run(decode(sequences));
    }
    expect(device.calls).toEqual([
      'begin',
      'end with 2',
      'launch 1',
      'launch 1',
      'launch 1',
      'begin',
      'end with 2',
      'launch 2',
    ]);
    expect(computed).toEqual([[4], [1]]);
    expect(() => graphs.run(decode(13))).toThrow(/a decode of 13 sequences; graphs are for 12/);
    graphs.free();
    expect(device.calls.slice(-2)).toEqual(['free 1', 'free 2']);
    ops.release(0);
  });

  it('computes each size once before it records it', () => {
    const { device, ops, graphs, computed } = make();
    ops.release(0);
    graphs.record();
    expect(computed.map(([size]) => size)).toEqual([12, 12, 8, 8, 4, 4, 2, 2, 1, 1]);
    expect(device.calls.slice(0, 5)).toEqual(['tune true', 'tune false', 'begin', 'end with 2', 'launch 1']);
    expect(device.calls.filter((call) => call.startsWith('launch'))).toHaveLength(5);
    expect(ops.mark()).toBe(0);
    const before = device.calls.length;
    for (const [at, sequences] of [12, 8, 4, 2, 1].entries()) {
      ops.release(0);
      graphs.run(decode(sequences));
      expect(device.calls.slice(before + at)).toEqual([`launch ${at + 1}`]);
    }
    ops.release(0);
  });

  it('ends a recording that failed', () => {
    const { device, ops } = make();
    ops.release(0);
    const graphs = new DecodeGraphs(device.native, OPTIONS, () => {
      throw new RangeError('no such layer');
    });
    for (const again of [0, 1]) {
      expect(() => graphs.run(decode(1))).toThrow('no such layer');
      expect(device.calls.slice(3 * again)).toEqual(['begin', 'end with 0', `free ${again + 1}`]);
    }
    ops.release(0);
  });
});
