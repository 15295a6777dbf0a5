import { describe, expect, it } from 'vitest';
import type { Placement } from '../runtime/model/placement.ts';
import { formatBytes, formatPlacement } from './inspect.ts';

const placement: Placement = {
  worldSize: 2,
  dtype: 'bfloat16',
  quantization: 'none',
  kvCacheDtype: 'auto',
  blockSize: 16,
  parameters: 40_068_684_160,
  ranks: [0, 1].map((rank) => ({
    rank,
    visionBytes: 1024,
    projectorBytes: 512,
    languageBytes: 2048,
    totalBytes: 3584,
    paddingBytes: 0,
  })),
  visionHeads: { real: 25, padded: 26, waste: 1 / 26 },
  vocabulary: { real: 64, padded: 64, waste: 0 },
  kvBytesPerToken: 122_880,
  kvBytesPerBlock: 1_966_080,
  gpus: [
    { gpu: 'Small', memoryBytes: 2 ** 30, fits: false, kvTokens: 0 },
    { gpu: 'Large', memoryBytes: 80 * 2 ** 30, fits: true, kvTokens: 4096 },
  ],
};
const plain = (_: string, text: string) => text;

describe('formatPlacement', () => {
  it('puts tabs between columns when piped', () => {
    expect(formatPlacement(placement, plain, false).split('\n')).toEqual([
      '40.07B parameters, bfloat16, 2 ranks',
      '',
      'rank\tvision\tprojector\tlanguage\tweights\tpadding',
      '0\t1 KiB\t512 B\t2 KiB\t3.50 KiB\t0 B',
      '1\t1 KiB\t512 B\t2 KiB\t3.50 KiB\t0 B',
      '',
      'vision heads   25 padded to 26 (3.85 % unused)',
      'vocabulary     64, no padding',
      'KV cache       120 KiB a token on each rank',
      '',
      'GPU of each rank\tmemory\tfits\tKV cache tokens',
      'Small\t1 GiB\tno\t-',
      'Large\t80 GiB\tyes\t4096',
      '',
    ]);
  });

  it('says how keys and values are kept where that is not as the rest', () => {
    const lines = formatPlacement({ ...placement, kvCacheDtype: 'fp8' }, plain, false).split('\n');
    expect(lines).toContain('KV cache       120 KiB a token on each rank, as fp8');
  });

  it('lines columns up for a terminal', () => {
    const lines = formatPlacement(placement, plain, true).split('\n');
    expect(lines[3]?.indexOf('512 B')).toBe(lines[2]?.indexOf('projector'));
  });
});

describe('formatBytes', () => {
  it.each([
    [0, '0 B'],
    [1023, '1023 B'],
    [1536, '1.50 KiB'],
    [80_137_368_320, '74.6 GiB'],
  ])('%i is %s', (bytes, text) => expect(formatBytes(bytes)).toBe(text));
});
