// The same answers from 1, 2, 4 and 8 rank processes. Five vision heads and a prime vocabulary: every size above 1 pads both.

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { pixelsPath, placeImage, readGolden } from '../../support/golden.ts';
import { relativeError } from '../../support/model-session.ts';
import { RankGroup } from '../../support/rank-group.ts';

const CASES = ['img_p1_what', 'img_p2_zh', 'text_hello', 'turns_image'];

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
    ['at once', 512],
    ['in chunks of 100', 100],
  ])('gives the golden logits and tokens, prompts computed %s', async (_, chunk) => {
    for (const caseName of CASES) {
      const run = golden.run(caseName);
      const image = run.picture === null ? undefined : placeImage(run.ids, golden.imageTokenId, 1);
      const pixels = run.picture === null ? undefined : pixelsPath(run.picture);
      const request = { ids: run.ids, image, pixels, steps: 16, chunk };
      const { tokens, logits } = await group.generate(request);
      const steps = Math.min(16, run.comparableSteps);
      expect(tokens.slice(0, steps), caseName).toEqual(run.newIds.slice(0, steps));
      const last = golden.tensors(caseName).find((tensor) => tensor.name === 'logits_last');
      if (last !== undefined)
        expect(relativeError(logits[0] ?? new Float32Array(), last.data), caseName).toBeLessThanOrEqual(1e-4);
    }
  });
});
