// The same answers from 1, 2, 4 and 8 rank processes. Five vision heads and a prime vocabulary: every size above 1 pads both.

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { pixelsPath, placeImage, readGolden, type Golden } from '../../support/golden.ts';
import { seeded } from '../../support/seeded-values.ts';
import { relativeError } from '../../support/model-session.ts';
import { RankGroup } from '../../support/rank-group.ts';
import type { RankRequest } from './rank-process.ts';

describe.each([
  ['tiny', 1],
  ['tiny', 2],
  ['small-tp', 2],
  ['small-tp', 4],
  ['small-tp', 8],
] as const)('%s over %i processes in float32', (name, worldSize) => {
  const golden = readGolden(name);
  let group: RankGroup;
  beforeAll(async () => {
    group = await RankGroup.start({ checkpoint: golden.checkpoint, worldSize, dtype: 'float32' });
  });
  afterAll(() => group?.stop());

  it.each([
    ['img_p1_what', 'at once', 512, 8],
    ['img_p2_zh', 'in chunks of 100', 100, 4],
    ['text_hello', 'at once', 512, 8],
  ])('gives %s the golden logits and tokens, the prompt computed %s', async (caseName, _, chunk, steps) => {
    const run = golden.run(caseName);
    const { tokens, logits } = await group.generate(requestOf(golden, caseName, steps, chunk));
    expect(run.comparableSteps).toBeGreaterThanOrEqual(steps);
    expect(tokens).toEqual(run.newIds.slice(0, steps));
    const last = golden.tensors(caseName).find((tensor) => tensor.name === 'logits_last');
    if (last !== undefined)
      expect(relativeError(logits[0] ?? new Float32Array(), last.data)).toBeLessThanOrEqual(1e-4);
  });
});

describe.each([
  ['tiny', 2, 'bfloat16', 'none', 'auto', 1.25],
  ['small-tp', 4, 'bfloat16', 'none', 'auto', 1.25],
  ['tiny', 2, 'float32', 'none', 'fp8', 5.5],
  ['small-tp', 4, 'bfloat16', 'none', 'fp8', 6],
  ['tiny', 2, 'float32', 'int8', 'auto', 2.8],
  ['small-tp', 4, 'float32', 'int8', 'auto', 2.8],
  ['tiny', 2, 'float32', 'fp8', 'auto', 10],
  ['small-tp', 4, 'float32', 'fp8', 'auto', 10],
] as const)(
  '%s over %i processes in %s, quantization %s, cache in %s',
  (name, worldSize, dtype, quantization, kvCacheDtype, furthest) => {
    it.each(['img_p1_what', 'img_p2_zh'])(
      'keeps the logits of %s as close as one process does',
      async (caseName) => {
        const golden = readGolden(name);
        const reference =
          golden.tensors(caseName).find((tensor) => tensor.name === 'logits_last')?.data ??
          new Float32Array();
        const group = await RankGroup.start({
          checkpoint: golden.checkpoint,
          worldSize,
          dtype,
          quantization,
          kvCacheDtype,
        });
        try {
          const { logits } = await group.generate(requestOf(golden, caseName, 1, 512));
          const [found = new Float32Array()] = logits;
          const largest = Math.max(...reference.map((value, i) => Math.abs((found[i] ?? NaN) - value)));
          // the bounds of reduced-precision.test.ts
          expect(largest).toBeGreaterThan(0);
          expect(largest).toBeLessThan(furthest * golden.bfloat16Difference);
        } finally {
          group.stop();
        }
      },
    );
  },
);

describe('drawn tokens', () => {
  it('are the same over 2 processes that run ahead as in one that waits for each', async () => {
    const golden = readGolden('tiny');
    const next = seeded(5);
    const draws = Array.from({ length: 12 }, (_, index) => ({
      temperature: index % 4 === 3 ? 0 : 1.5,
      topK: index % 2 === 0 ? 0 : 30,
      topP: index % 3 === 0 ? 1 : 0.9,
      share: (next() + 1) / 2,
    }));
    const answer = async (worldSize: number, runsAhead: boolean): Promise<number[]> => {
      const { checkpoint } = golden;
      const group = await RankGroup.start({ checkpoint, worldSize, dtype: 'float32', runsAhead });
      try {
        return (await group.generate({ ...requestOf(golden, 'text_hello', 0, 512), draws })).tokens;
      } finally {
        group.stop();
      }
    };
    const expected = await answer(1, false);
    expect(new Set(expected).size).toBeGreaterThan(6);
    expect(await answer(1, true)).toEqual(expected);
    expect(await answer(2, true)).toEqual(expected);
  });
});

function requestOf(golden: Golden, caseName: string, steps: number, chunk: number): RankRequest {
  const { ids, picture } = golden.run(caseName);
  return {
    ids,
    image: picture === null ? undefined : placeImage(ids, golden.imageTokenId, 1),
    pixels: picture === null ? undefined : pixelsPath(picture),
    steps,
    chunk,
  };
}
