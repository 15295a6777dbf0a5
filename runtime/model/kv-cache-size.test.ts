import { describe, expect, it } from 'vitest';
import { config40B } from '../../test/support/model-configs.ts';
import { KvCacheError, kvBytesPerBlock, kvBytesPerToken, kvCacheBlocks, kvDType } from './kv-cache-size.ts';

describe('KV cache size', () => {
  it('is two vectors a layer and head', () => {
    expect(kvBytesPerToken(config40B(), 1, 'bfloat16')).toBe(2 * 60 * 8 * 128 * 2);
    expect(kvBytesPerToken(config40B(), 8, 'float32')).toBe(2 * 60 * 128 * 4);
    expect(kvBytesPerBlock(config40B(), 2, 'bfloat16', 16)).toBe(16 * 122_880);
  });

  it('is a byte an element and a scale for each vector in fp8, whatever the model computes in', () => {
    for (const dtype of ['bfloat16', 'float32'] as const) {
      expect(kvDType('auto', dtype)).toBe(dtype);
      expect(kvBytesPerToken(config40B(), 8, kvDType('fp8', dtype))).toBe(2 * 60 * (128 + 4));
    }
    expect(kvBytesPerBlock(config40B(), 2, 'float8', 16)).toBe(16 * 63_360);
  });

  const limits = { bytesPerBlock: 1000, blockSize: 16, maxModelLength: 100, maxSequences: 4 };
  it.each([
    ['what fits', 9_999, 9],
    ['exactly one sequence', 7_000, 7],
    ['no more than all sequences at full length', 1_000_000, 28],
  ])('takes %s', (_, availableBytes, blocks) => {
    expect(kvCacheBlocks({ ...limits, availableBytes })).toBe(blocks);
  });

  it('refuses less than one sequence and says how much is needed', () => {
    expect(() => kvCacheBlocks({ ...limits, availableBytes: 6_999 })).toThrow(KvCacheError);
    expect(() => kvCacheBlocks({ ...limits, availableBytes: 6_999 })).toThrow(
      /hold 96 tokens; .* needs 7000 bytes/,
    );
  });
});
