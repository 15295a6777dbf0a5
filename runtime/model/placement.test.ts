import { describe, expect, it } from 'vitest';
import { config40B, smallConfig } from '../../test/support/model-configs.ts';
import { PartitionError } from './partition.ts';
import { describePlacement, parameterCount } from './placement.ts';

describe('describePlacement of the published 40B model', () => {
  it('has the published number of parameters, by part', () => {
    const { parameters, ranks } = describePlacement(config40B(), 1, 'bfloat16', { blockSize: 16 });
    expect(parameters).toBe(40_068_684_160);
    expect(ranks[0]).toEqual({
      rank: 0,
      visionBytes: 2 * 5_536_496_000,
      projectorBytes: 2 * 143_170_560,
      languageBytes: 2 * 34_389_017_600,
      totalBytes: 80_137_368_320,
      paddingBytes: 0,
    });
  });

  it.each([
    [1, 80.14, 245_760, 25, 64_007],
    [2, 40.15, 122_880, 26, 64_008],
    [4, 20.16, 61_440, 28, 64_008],
    [8, 10.16, 30_720, 32, 64_008],
  ])('at size %i holds %d GB a rank and %i bytes of KV a token', (worldSize, gigabytes, kv, heads, vocab) => {
    const placement = describePlacement(config40B(), worldSize, 'bfloat16', { blockSize: 16 });
    for (const rank of placement.ranks) expect(Math.round(rank.totalBytes / 1e7) / 100).toBe(gigabytes);
    expect(placement.kvBytesPerToken).toBe(kv);
    expect(placement.kvBytesPerBlock).toBe(16 * kv);
    expect(placement.visionHeads).toEqual({ real: 25, padded: heads, waste: (heads - 25) / heads });
    expect(placement.vocabulary).toMatchObject({ real: 64_007, padded: vocab });
  });

  it('says which GPUs one rank fits on and how much KV cache is left', () => {
    const one = fits(1);
    expect(one['A100 40 GB']).toBe(0);
    expect(one['L40S 48 GB']).toBe(0);
    expect(one['A100 80 GB']).toBeGreaterThan(10_000);
    expect(one['A100 80 GB']).toBeLessThan(18_000);
    expect(one['H200 141 GB']).toBeGreaterThan(250_000);
    expect(fits(2)['L40S 48 GB']).toBeGreaterThan(30_000);
    expect(fits(4)['A100 40 GB']).toBeGreaterThan(250_000);
  });

  it('has nearly twice the tokens of an fp8 cache', () => {
    const options = { blockSize: 16, kvCacheDtype: 'fp8' } as const;
    const placement = describePlacement(config40B(), 2, 'bfloat16', options);
    expect(placement.kvBytesPerToken).toBe(63_360);
    expect(placement.kvBytesPerBlock).toBe(16 * 63_360);
    const tokens = fits(2, 'fp8')['L40S 48 GB'] ?? 0;
    expect(tokens / (fits(2)['L40S 48 GB'] ?? 0)).toBeCloseTo(122_880 / 63_360, 2);
  });

  function fits(worldSize: number, kvCacheDtype: 'auto' | 'fp8' = 'auto'): Record<string, number> {
    const { gpus } = describePlacement(config40B(), worldSize, 'bfloat16', { blockSize: 16, kvCacheDtype });
    return Object.fromEntries(gpus.map(({ gpu, kvTokens, fits }) => [gpu, fits ? kvTokens : 0]));
  }
});

describe('describePlacement', () => {
  it('counts the padding of the last ranks', () => {
    const { ranks } = describePlacement(smallConfig(), 8, 'float32', { blockSize: 16 });
    expect(ranks[0]?.paddingBytes).toBe(0);
    expect(ranks[7]?.paddingBytes).toBeGreaterThan(ranks[4]?.paddingBytes ?? 0);
  });

  it('counts tied embeddings once', () => {
    expect(
      parameterCount(smallConfig()) - parameterCount(smallConfig({}, { tie_word_embeddings: true })),
    ).toBe(101 * 64);
  });

  it('refuses a size that cannot be', () => {
    expect(() => describePlacement(config40B(), 3, 'bfloat16', { blockSize: 16 })).toThrow(PartitionError);
  });
});
