// A rank that serves takes no more memory of its device: taking and giving it back waits for all that the device has to do.

import { afterEach, expect, it } from 'vitest';
import { modelShape } from '../../../bench/shapes.ts';
import { DEFAULT_TUNING } from '../../../runtime/engine/engine-tuning.ts';
import { LeaderLoop } from '../../../runtime/engine-thread/leader-loop.ts';
import { parseModelConfig } from '../../../runtime/model/config.ts';
import { dummyWeights } from '../../../runtime/model/dummy-weights.ts';
import { imageBytes, mostImages } from '../../../runtime/model/image-bytes.ts';
import { InternVL } from '../../../runtime/model/internvl.ts';
import { partition } from '../../../runtime/model/partition.ts';
import { native } from '../../../runtime/native/index.ts';
import { picture, submission } from '../../support/submissions.ts';

const llm = {
  hidden_size: 64,
  intermediate_size: 128,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  vocab_size: 301,
};
const vision = { hidden_size: 64, intermediate_size: 96, num_attention_heads: 2 };
const config = parseModelConfig({ ...modelShape(llm, vision), force_image_size: 56 });
const SIZES = { blockSize: 16, kvBlocks: 64, maxSequences: 4, maxModelLength: 256 };
const ops = native();

/** From here on the device has no byte that is not taken already. */
function fillDevice(): void {
  const { freeBytes, totalBytes } = ops.deviceInfo();
  process.env['CUDA_ON_HOST_MEMORY'] = String(totalBytes - freeBytes);
}

afterEach(() => {
  delete process.env['CUDA_ON_HOST_MEMORY'];
});

/** Whether the pictures that a rank keeps have memory from the start. */
async function serve(reserved: boolean): Promise<Map<number, string>> {
  const pictures = { imageBytes: imageBytes(config, 'bfloat16'), maxEncodedImages: 3 };
  const tuning = {
    ...DEFAULT_TUNING,
    ...pictures,
    encoderCacheBytes: 2 * pictures.imageBytes,
    maxBatchedTokens: 48,
  };
  const model = new InternVL(ops, config, dummyWeights(ops, partition(config, 0, 1, 'bfloat16')), {
    rank: 0,
    worldSize: 1,
    dtype: 'bfloat16',
    kvCache: { blocks: SIZES.kvBlocks, ...SIZES },
    runsAhead: { ...SIZES, maxBatchedTokens: tuning.maxBatchedTokens },
    decodeGraphs: SIZES,
    maxKeptImages: reserved ? mostImages(tuning) : 0,
  });
  // Prompts of many lengths, longer and shorter than a step; more pictures than are kept, some of them twice; greedy and drawn.
  const submissions = Array.from({ length: 14 }, (_, handle) => {
    const images = handle % 3 === 0 ? [] : [handle % 8, (handle + 1) % 8];
    return submission(handle, {
      tokenIds: Uint32Array.from({ length: 12 + 9 * handle }, (_unused, i) => 10 + ((i * 7 + handle) % 200)),
      images: images.map((name, i) => ({
        ...picture(`${name}`, 1 + 5 * i, config.imageTokens),
        pixels: new Uint8Array(3 * config.vision.imageSize ** 2).fill(20 * name),
      })),
      sampling: {
        maxTokens: 6,
        ignoreEos: true,
        ...(handle % 4 === 1 ? { temperature: 0.8, seed: BigInt(handle) } : {}),
      },
    });
  });
  const finished = new Map<number, string>();
  try {
    const loop = new LeaderLoop({
      info: { ...SIZES, vocabSize: config.llm.vocabSize },
      model,
      tuning,
      followed: false,
      native: ops,
      progress: () => undefined,
      post: (message) => {
        if (message.type !== 'output') return;
        for (const { handle, reason } of message.output.finished) finished.set(handle, reason);
        if (finished.size === submissions.length) loop.stop();
      },
    });
    model.warmUp(() => performance.now());
    fillDevice();
    loop.submit(submissions);
    await loop.run();
  } finally {
    model.close();
  }
  return finished;
}

it('takes no memory of its device once it is warm', async () => {
  expect([...(await serve(true)).values()]).toEqual(Array.from({ length: 14 }, () => 'length'));
}, 300_000);

it('would be seen to take some', async () => {
  await expect(serve(false)).rejects.toThrow(/out of device memory/);
}, 300_000);
