// The published model's own answers, through the public API: every golden case, alone and all together.

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { goldenAnswers, requestOf, type GoldenAnswer } from '../../support/served-golden.ts';
import { REASONS, Served, type Call } from '../../support/served.ts';

const LOGPROB_TOLERANCE = 1e-3;

describe.each([
  { checkpoint: 'tiny', tensorParallelSize: 1, cases: /./, maxTokens: 32 },
  { checkpoint: 'tiny', tensorParallelSize: 2, cases: /./, maxTokens: 32 },
  { checkpoint: 'small-tp', tensorParallelSize: 1, cases: /./, maxTokens: 32 },
  // More ranks than most machines of developers have cores: two short cases show that they agree.
  { checkpoint: 'small-tp', tensorParallelSize: 4, cases: /^(text_hello|img_p1_what)$/, maxTokens: 6 },
] as const)(
  '$checkpoint in float32 over $tensorParallelSize ranks',
  ({ checkpoint, tensorParallelSize, cases, maxTokens }) => {
    const answers = goldenAnswers(checkpoint).filter(({ name }) => cases.test(name));
    let served: Served;

    beforeAll(async () => {
      served = await Served.start({ checkpoint, tensorParallelSize });
    });

    afterAll(async () => {
      expect(await served?.stop()).toEqual({ code: 0, left: [] });
    });

    const ask = (answer: GoldenAnswer) =>
      served.generate(requestOf(answer, { logprobs: 5, sampling: { maxTokens } }));

    it.each(answers)('answers $name as published', async (answer) => {
      expectGolden(await ask(answer).ended, answer, maxTokens);
    });

    it('gives the same answers when all are asked at once', async () => {
      const calls = await Promise.all([...answers, ...answers].map((answer) => ask(answer).ended));
      for (const [index, answer] of [...answers, ...answers].entries())
        expectGolden(calls[index]!, answer, maxTokens);
      await served.idle();
    });

    it('gives the same answers from its caches', async () => {
      const [leader = ''] = served.replicas[0] ?? [];
      const encoded = await served.metric(leader, 'internvl_encoder_cache_misses_total');
      for (const answer of answers) await ask(answer).ended; // those that another test has not asked
      const cached = await Promise.all(answers.map((answer) => ask(answer).ended));
      for (const [index, answer] of answers.entries()) {
        expectGolden(cached[index]!, answer, maxTokens);
        // All whole blocks of 16 tokens but for the last token.
        const whole = Math.floor((answer.prompt.ids.length - 1) / 16) * 16;
        expect(cached[index]!.finished?.usage?.cachedTokens).toBe(whole);
      }
      const misses = (await served.metric(leader, 'internvl_encoder_cache_misses_total')) - encoded;
      expect(misses).toBeLessThanOrEqual(
        new Set(answers.flatMap(({ prompt }) => prompt.pictures ?? [])).size,
      );
    });
  },
);

function expectGolden(call: Call, answer: GoldenAnswer, maxTokens: number): void {
  const comparable = Math.min(answer.comparable, maxTokens);
  expect(call.error).toBeUndefined();
  expect(call.promptTokenIds).toEqual(answer.prompt.ids);
  expect({ name: answer.name, ids: call.tokenIds.slice(0, comparable) }).toEqual({
    name: answer.name,
    ids: answer.tokenIds.slice(0, comparable),
  });
  expect(call.logprobs).toHaveLength(call.tokenIds.length);
  for (const [step, wanted] of answer.top.slice(0, comparable).entries()) {
    const { tokenId, logprob, top } = call.logprobs[step]!;
    expect(tokenId).toBe(call.tokenIds[step]);
    expect(Math.abs(logprob - wanted[0]![1])).toBeLessThan(LOGPROB_TOLERANCE);
    expect(top).toHaveLength(5);
    for (const [at, [, value]] of wanted.entries())
      expect(Math.abs(top[at]!.logprob - value)).toBeLessThan(LOGPROB_TOLERANCE);
    // Near ties below the first may change places.
    const recorded = new Map(wanted);
    for (const { tokenId: id, logprob: value } of top)
      expect(Math.abs(value - (recorded.get(id) ?? wanted[4]![1]))).toBeLessThan(LOGPROB_TOLERANCE);
  }
  if (comparable < answer.tokenIds.length) return;
  expect(call.text).toBe(answer.text);
  expect(call.finished?.finishReason).toBe(REASONS[answer.finish]);
  expect(call.finished?.usage).toEqual({
    promptTokens: answer.prompt.ids.length,
    imageTokens: answer.prompt.imageTokens,
    cachedTokens: expect.any(Number) as number,
    completionTokens: answer.tokenIds.length,
  });
}
