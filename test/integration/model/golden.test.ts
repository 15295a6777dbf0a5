// float32 on one rank against the published model: every recorded tensor, logits, log-probabilities and greedy tokens, however the
// tokens are spread over forward passes.

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { InternVL } from '../../../runtime/model/internvl.ts';
import { native } from '../../../runtime/native/index.ts';
import type { BatchPart, TestSequence } from '../../support/batches.ts';
import { placeImage, readGolden, readPixels, type GoldenRun } from '../../support/golden.ts';
import { argmax, loadTestModel, ModelSession, relativeError } from '../../support/model-session.ts';
import { seededRandom } from '../../support/seeded-random.ts';

/** Of the largest magnitude; the manifest's tolerances are no wider. */
const FLOAT32_TOLERANCE = 1e-4;

describe.each(['tiny', 'small-tp'])('%s in float32', (name) => {
  const golden = readGolden(name);
  const taps = new Map<string, Float32Array>();
  let model: InternVL;
  let session: ModelSession;
  let layersSeen = 0;

  beforeAll(() => {
    native().setThreads(2);
    model = loadTestModel(golden.checkpoint, {
      dtype: 'float32',
      taps: (tap, tensor) => taps.set(tap, native().readFloat32(tensor)),
      progress: () => layersSeen++,
    });
    session = new ModelSession(model);
    const pictures = new Set(golden.runs.flatMap(({ picture }) => picture ?? []));
    for (const picture of pictures) model.encodeImage(imageOf(picture), readPixels(picture));
  });
  afterAll(() => {
    model.close();
    expect(native().memoryBytes()).toMatchObject({ persistent: 0, arenaUsed: 0 });
  });

  /** The number under which a picture is encoded. */
  function imageOf(picture: string): number {
    return Number(/^p(\d)/.exec(picture)?.[1]);
  }

  function start({ ids, picture }: GoldenRun): TestSequence {
    const images = picture === null ? [] : [placeImage(ids, golden.imageTokenId, imageOf(picture))];
    return session.start(ids, images);
  }

  it.each(golden.tensorCases)('computes every recorded tensor of %s', (caseName) => {
    const run = golden.run(caseName);
    const scratchImage = 99;
    taps.clear();
    model.encodeImage(scratchImage, readPixels(run.picture ?? ''));
    model.freeImage(scratchImage);
    const sequence = start(run);
    const rows = session.step([{ sequence, count: run.ids.length, logits: 'all' }]) ?? [];
    session.finish(sequence);
    taps.set('logits_last', rows.at(-1) ?? new Float32Array());

    const recorded = golden.tensors(caseName);
    expect(recorded.length).toBeGreaterThanOrEqual(10);
    for (const { name: tensor, rows: wanted, tolerance, data } of recorded) {
      const whole = taps.get(tensor) ?? new Float32Array();
      const found = wanted === undefined ? whole : pick(whole, wanted, data.length / wanted.length);
      const error = relativeError(found, data);
      expect(error, `${tensor}: relative error ${error}`).toBeLessThanOrEqual(
        Math.min(tolerance, FLOAT32_TOLERANCE),
      );
    }
  });

  it.each(golden.logprobCases)('gives the prompt of %s its log-probabilities', (caseName) => {
    const run = golden.run(caseName);
    const sequence = start(run);
    const rows = session.step([{ sequence, count: run.ids.length, logits: 'all' }]) ?? [];
    session.finish(sequence);
    const reference = golden.promptLogprobs(caseName);
    expect(reference.length).toBe(run.ids.length - 1);
    for (const [i, logprob] of reference.entries()) {
      const found = logprobOf(rows[i] ?? new Float32Array(), run.ids[i + 1] ?? NaN);
      expect(Math.abs(found - logprob), `position ${i + 1}`).toBeLessThan(1e-3);
    }
  });

  it.each(golden.runs)('continues $name with the same greedy tokens', (run) => {
    const sequence = start(run);
    const { tokens } = session.greedy(sequence, run.newIds.length);
    session.finish(sequence);
    expect(run.comparableSteps).toBeGreaterThan(0);
    expect(tokens.slice(0, run.comparableSteps)).toEqual(run.newIds.slice(0, run.comparableSteps));
  });

  it.each([1, 7, 64, 100])('gives the same logits when the prompt comes in chunks of %i', (chunk) => {
    // 18 tokens stand before the picture's 256: with 7, 64 and 100 boundaries fall inside it
    for (const caseName of chunk === 1 ? ['turns_text'] : ['img_p2_zh', 'turns_image', 'turns_text']) {
      const whole = start(golden.run(caseName));
      const chunked = start(golden.run(caseName));
      const reference = session.prefill(whole) ?? new Float32Array();
      const found = session.prefill(chunked, chunk) ?? new Float32Array();
      session.finish(whole);
      session.finish(chunked);
      expect(relativeError(found, reference), caseName).toBeLessThan(1e-5);
    }
  });

  it('gives the same tokens and logits in batches that mix chunks of prompts and decodes', () => {
    const random = seededRandom(2024);
    const runs = ['img_p1_what', 'text_hello', 'img_p3_read', 'turns_image', 'text_sum', 'img_p2_zh'].map(
      (caseName) => golden.run(caseName),
    );
    const sequences = runs.map(start);
    const tokens: number[][] = runs.map(() => []);
    const first: Float32Array[] = [];
    let mixed = 0;
    while (runs.some((run, s) => (tokens[s]?.length ?? 0) < run.newIds.length)) {
      const parts: (BatchPart & { s: number })[] = [];
      for (const [s, sequence] of sequences.entries()) {
        if ((tokens[s]?.length ?? 0) >= (runs[s]?.newIds.length ?? 0)) continue;
        const left = sequence.ids.length - sequence.computed;
        const count = Math.min(left, 1 + Math.floor(random() * 60));
        if (random() < 0.3) continue; // this sequence pauses
        parts.push({ s, sequence, count, logits: count === left ? 'last' : 'none' });
      }
      if (parts.length === 0) continue;
      if (parts.some(({ logits }) => logits === 'none') && parts.some(({ logits }) => logits === 'last'))
        mixed++;
      const rows = session.step(parts) ?? [];
      const finishing = parts.filter(({ logits }) => logits === 'last');
      expect(rows.length).toBe(finishing.length);
      for (const [row, { s, sequence }] of finishing.entries()) {
        const logits = rows[row] ?? new Float32Array();
        first[s] ??= logits;
        tokens[s]?.push(argmax(logits));
        sequence.ids.push(argmax(logits));
      }
    }
    expect(mixed).toBeGreaterThan(5);
    for (const sequence of sequences) session.finish(sequence);
    for (const [s, run] of runs.entries()) {
      expect(tokens[s]?.slice(0, run.comparableSteps), run.name).toEqual(
        run.newIds.slice(0, run.comparableSteps),
      );
      const alone = start(run);
      const reference = session.prefill(alone) ?? new Float32Array();
      session.finish(alone);
      expect(relativeError(first[s] ?? new Float32Array(), reference), run.name).toBeLessThan(1e-5);
    }
  });

  it('calls progress once per layer, and gives back what a step left at the next', () => {
    const step = (): number => {
      layersSeen = 0;
      const sequence = start(golden.run('text_hello'));
      expect(session.step([{ sequence, count: 8, logits: 'none' }])).toEqual([]);
      session.finish(sequence);
      expect(layersSeen).toBe([...taps.keys()].filter((tap) => tap.startsWith('llm_layer_')).length);
      return native().memoryBytes().arenaUsed;
    };
    const left = step();
    expect(step()).toBe(left);
    model.encodeImage(98, readPixels('p1_shapes.png'));
    model.freeImage(98);
    expect(native().memoryBytes().arenaUsed).toBe(0);
  });

  it('refuses a picture that is not encoded, or twice, or of another size, and goes on', () => {
    const sequence = session.start([1, 2, 3], [{ image: 77, position: 1, tokens: 2 }]);
    expect(() => session.step([{ sequence, count: 3, logits: 'last' }])).toThrow(/picture 77 is not encoded/);
    session.finish(sequence);
    const pixels = readPixels('p1_shapes.png');
    expect(() => model.encodeImage(1, pixels)).toThrow(/picture 1 is already encoded/);
    expect(() => model.encodeImage(77, pixels.subarray(3))).toThrow(
      /picture 77 has 602109 bytes of pixels, not 602112/,
    );
    model.freeImage(77);
    const run = golden.run('text_hello');
    const next = start(run);
    expect(session.greedy(next, 4).tokens).toEqual(run.newIds.slice(0, 4));
    session.finish(next);
  });
});

/** Rows of a row-major matrix with `width` columns. */
function pick(whole: Float32Array, rows: readonly number[], width: number): Float32Array {
  const picked = new Float32Array(rows.length * width);
  for (const [i, row] of rows.entries())
    picked.set(whole.subarray(row * width, (row + 1) * width), i * width);
  return picked;
}

function logprobOf(logits: Float32Array, id: number): number {
  const top = logits[argmax(logits)] ?? NaN;
  let sum = 0;
  for (const logit of logits) sum += Math.exp(logit - top);
  return (logits[id] ?? NaN) - top - Math.log(sum);
}
