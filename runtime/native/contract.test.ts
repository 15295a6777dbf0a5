import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { native } from './index.ts';
import type { Tensor } from './index.ts';

const ops = native();

/** The functions of `interface Native`, in order. */
function contractNames(): string[] {
  const source = readFileSync(join(import.meta.dirname, 'index.ts'), 'utf8');
  const body = /export interface Native \{(.*?)\n\}/s.exec(source)?.[1] ?? '';
  return [...body.matchAll(/^ {2}(\w+)\(/gm)].map((match) => match[1]!);
}

describe('the addon', () => {
  it('has the functions of the contract, in its order', () => {
    const addon = createRequire(import.meta.url)('../../build/native/internvl_native.node') as object;
    expect(contractNames().length).toBeGreaterThan(30);
    expect(Object.keys(addon)).toEqual(contractNames());
    expect(Object.keys(ops)).toEqual(contractNames());
  });

  it('tells the machine', () => {
    const info = ops.cpuInfo();
    expect(info.model).not.toBe('');
    expect(['amx', 'avx512_bf16', 'avx512', 'avx2', 'scalar']).toContain(info.isa);
    expect(info.bfloat16Matmul).toBe(['amx', 'avx512_bf16'].includes(info.isa));
  });

  it('adds up the time inside its functions', () => {
    const before = ops.nanosecondsInside();
    const x = ops.scratch('float32', 256, 256);
    ops.linear(x, x, null, 'float32');
    const between = ops.nanosecondsInside();
    expect(between).toBeGreaterThan(before);
    expect(() => ops.linear(x, x, null, 'int32')).toThrow(TypeError);
    expect(ops.nanosecondsInside()).toBeGreaterThan(between);
  });

  it('takes thread counts from 1', () => {
    ops.setThreads(2);
    for (const count of [0, -1, 1.5, Number.NaN, 1e9])
      expect(() => ops.setThreads(count)).toThrow(/^setThreads: count/);
  });
});

describe('every function', () => {
  it('throws TypeError or RangeError that names it when called without arguments', () => {
    const functions = ops as unknown as Record<string, (...args: unknown[]) => unknown>;
    const withoutArguments = new Set([
      'cpuInfo',
      'deviceInfo',
      'beginGraph',
      'nanosecondsInside',
      'mark',
      'memoryBytes',
      'closeCollective',
    ]);
    for (const name of contractNames()) {
      if (withoutArguments.has(name)) continue;
      let thrown: unknown;
      try {
        functions[name]!();
      } catch (error) {
        thrown = error;
      }
      expect(thrown instanceof TypeError || thrown instanceof RangeError, name).toBe(true);
      expect((thrown as Error).message).toMatch(new RegExp(`^${name}: \\w+`));
    }
  });

  it('survives arguments of every wrong kind', () => {
    const functions = ops as unknown as Record<string, (...args: unknown[]) => unknown>;
    const matrix = ops.allocate('float32', [4, 6]);
    const odd = ops.allocate('bfloat16', [3]);
    const stale = ops.allocate('uint8', [1]);
    ops.free(stale);
    const wrong = [
      matrix,
      odd,
      stale,
      0,
      -1,
      3,
      1e15,
      Number.NaN,
      null,
      undefined,
      'float32',
      '',
      [],
      [1, 2, 3],
      {},
    ];
    const typed = [new Int32Array(2), Int32Array.of(-5, 2 ** 31 - 1), new Uint8Array(3), new Float64Array(1)];
    const choices: unknown[] = [...wrong, ...typed];
    const harmful = new Set([
      'free',
      'openFile',
      'setThreads',
      'createCollective',
      'cpuInfo',
      'deviceInfo',
      'allocate',
      'scratch',
    ]);
    let state = 1;
    const pick = () => {
      state = (state * 48271) % 2147483647;
      return choices[state % choices.length];
    };
    let thrown = 0;
    for (const name of contractNames()) {
      if (harmful.has(name)) continue;
      for (let attempt = 0; attempt < 300; attempt++) {
        try {
          functions[name]!(...Array.from({ length: 12 }, pick));
        } catch (error) {
          thrown++;
          expect(error instanceof TypeError || error instanceof RangeError, `${name}: ${String(error)}`).toBe(
            true,
          );
        }
      }
    }
    expect(thrown).toBeGreaterThan(5000);
    expect(ops.shape(matrix)).toEqual([4, 6]);
  });

  it('refuses a tensor of a wrong kind by operand name', () => {
    const matrix = ops.allocate('float32', [4, 6]);
    const vector = ops.allocate('float32', [6]);
    const integers = ops.allocate('int32', [4, 6]);
    const narrow = ops.allocate('float32', [5, 2]);
    const cases: [() => unknown, RegExp][] = [
      [
        () => ops.linear(vector, matrix, null, 'float32'),
        /^linear: x must be a float32 or bfloat16 matrix, not float32 \[6\]$/,
      ],
      [
        () => ops.linear(matrix, integers, null, 'float32'),
        /^linear: weight must be .*, not int32 \[4, 6\]$/,
      ],
      [
        () => ops.linear(matrix, narrow, null, 'float32'),
        /^linear: weight float32 \[5, 2\] must have as many columns as x/,
      ],
      [() => ops.linear(matrix, matrix, vector, 'float32'), /^linear: bias must have 4 elements, not 6$/],
      [
        () => ops.linear(matrix, matrix, null, 'int32'),
        /^linear: outDtype must be float32 or bfloat16, not 'int32'$/,
      ],
      [() => ops.rmsNorm(matrix, matrix, 1e-6), /^rmsNorm: weight must be a float32 or bfloat16 vector/],
      [() => ops.addScaled(matrix, narrow, null), /^addScaled: y float32 \[5, 2\] must have the shape of x/],
      [() => ops.gatherRows(matrix, ops.indices(Int32Array.of(4))), /^gatherRows: rows holds 4, outside x/],
      [
        () => ops.gatherRows(matrix, ops.scratch('int32', 1, 2)),
        /^gatherRows: rows must be a result of indices, not int32 \[1, 2\]$/,
      ],
      [() => ops.copyRows(matrix, 3, matrix, 0, 2), /^copyRows: rows \[3, 5\) lie outside dst/],
      [
        () => ops.copyRows(matrix, 0, integers, 0, 1),
        /^copyRows: src int32 \[4, 6\] must have the dtype of dst/,
      ],
      [
        () => ops.siluMul(ops.scratch('float32', 1, 3)),
        /^siluMul: gateUp .* must have an even number of columns/,
      ],
      [() => ops.pixelShuffle(matrix, 4, 1), /^pixelShuffle: x .* must have 1 \+ side\^2 = 17 rows/],
      [
        () => ops.embedding(99 as Tensor, ops.indices(Int32Array.of(1)), 0),
        /^embedding: table is a tensor that was freed or released/,
      ],
    ];
    for (const [run, message] of cases) expect(run).toThrow(message);
  });
});
