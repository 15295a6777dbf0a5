import { describe, expect, it } from 'vitest';
import type { EngineInfo } from '../gen/proto/internvl/engine/v1/engine.ts';
import { incompatibility } from './models.ts';

const INFO: EngineInfo = {
  model: 'tiny',
  dtype: 'float32',
  tensorParallelSize: 1,
  maxModelLength: 4096,
  vocabSize: 500,
  blockSize: 16,
  kvBlocks: 10,
  maxSequences: 4,
  imageTokens: 256,
  maxImages: 4,
  imageTokenId: 1,
  tokenizerFingerprint: 'tok',
  modelFingerprint: 'mod',
  maxImageBytes: 1,
  maxImagePixels: 1,
  version: '',
};

describe('incompatibility', () => {
  it.each<[string, Partial<EngineInfo>, RegExp | undefined]>([
    ['the same', {}, undefined],
    [
      'other sizes that do not change answers',
      { maxModelLength: 10, maxSequences: 9, tensorParallelSize: 2, maxImages: 1 },
      undefined,
    ],
    ['another tokenizer', { tokenizerFingerprint: 'x' }, /tokenizer fingerprint is x, theirs is tok/],
    ['another model', { modelFingerprint: 'x' }, /model fingerprint is x, theirs is mod/],
    ['another vocabulary', { vocabSize: 501 }, /vocabulary size is 501/],
    ['other pictures', { imageTokens: 64 }, /image tokens is 64/],
  ])('%s', (_, change, message) => {
    const why = incompatibility(INFO, { ...INFO, ...change });
    if (message === undefined) expect(why).toBeUndefined();
    else expect(why).toMatch(message);
  });
});
