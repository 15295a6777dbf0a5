// Every knob of sampling, asked of the served model and compared with its golden greedy answer.

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { FinishReason } from '../../../gen/proto/internvl/v1/generation.ts';
import { Served, request, type Call } from '../../support/served.ts';
import { goldenAnswer, requestOf } from '../../support/served-golden.ts';

const EOS = 7;
const greedy = goldenAnswer('tiny', 'text_hello');
/** Ends by itself after seven tokens. */
const short = goldenAnswer('tiny', 'text_sum');

let served: Served;

beforeAll(async () => {
  served = await Served.start({ checkpoint: 'tiny' });
});

afterAll(async () => {
  expect(await served?.stop()).toEqual({ code: 0, left: [] });
});

async function ask(changes: Parameters<typeof requestOf>[1] = {}, answer = greedy): Promise<Call> {
  const call = await served.generate(requestOf(answer, changes)).ended;
  expect(call.error).toBeUndefined();
  return call;
}

describe('greedy', () => {
  it.each([
    ['temperature 0, whatever else is asked', { temperature: 0, topK: 50, topP: 0.5, seed: 3n }],
    ['top_k 1 at any temperature', { temperature: 2, topK: 1, seed: 3n }],
    ['a top_p that only the first token fits', { temperature: 1, topP: 1e-6, seed: 3n }],
    ['a temperature close to 0', { temperature: 1e-4, seed: 3n }],
    ['the default of this checkpoint', { temperature: undefined }],
  ])('is %s', async (_, sampling) => {
    expect((await ask({ sampling })).tokenIds).toEqual(greedy.tokenIds);
  });

  it('is a request without any sampling', async () => {
    const call = await served.generate({ ...request(greedy.prompt), sampling: undefined }).ended;
    expect(call.tokenIds.slice(0, 32)).toEqual(greedy.tokenIds);
  });
});

describe('a seed', () => {
  it('gives the same answer alone and in any batch, and another seed another answer', async () => {
    const sampling = (seed: bigint) => ({ sampling: { temperature: 1, seed } });
    const seeds = [0n, 1n, 2n, 3n, 2n ** 64n - 1n];
    const alone: number[][] = [];
    for (const seed of seeds) alone.push((await ask(sampling(seed))).tokenIds);
    expect(new Set(alone.map(String)).size).toBe(seeds.length);
    const crowd = Array.from({ length: 8 }, () => ask({}, goldenAnswer('tiny', 'img_p1_what')));
    const together = await Promise.all([...seeds, ...seeds].map((seed) => ask(sampling(seed))));
    expect(together.map(({ tokenIds }) => tokenIds)).toEqual([...alone, ...alone]);
    for (const call of await Promise.all(crowd))
      expect(call.tokenIds).toEqual(goldenAnswer('tiny', 'img_p1_what').tokenIds);
  });

  it('that is not given differs from call to call', async () => {
    const calls = await Promise.all([1, 2, 3].map(() => ask({ sampling: { temperature: 1 } })));
    expect(new Set(calls.map(({ tokenIds }) => String(tokenIds))).size).toBe(3);
  });

  it('keeps to the top_k most likely tokens', async () => {
    const { logprobs } = await ask({ sampling: { temperature: 3, topK: 3, seed: 1n }, logprobs: 3 });
    expect(logprobs).toHaveLength(32);
    for (const { tokenId, top } of logprobs) expect(top.map((entry) => entry.tokenId)).toContain(tokenId);
    expect(logprobs.some(({ tokenId, top }) => tokenId !== top[0]!.tokenId)).toBe(true);
  });
});

describe('a stop string', () => {
  it.each([
    ['inside a token', 'ctio', 0],
    ['over the border of two tokens', 'nte', 1],
    ['over three tokens', 'r子,', 3],
    ['at the very beginning', 'u', 0],
  ])('%s ends the answer before it', async (_, stop, lastToken) => {
    const call = await ask({ sampling: { stop: ['never there', stop] } });
    expect(call.text).toBe(greedy.text.slice(0, greedy.text.indexOf(stop)));
    expect(call.tokenIds).toEqual(greedy.tokenIds.slice(0, lastToken + 1));
    expect(call.finished).toMatchObject({
      finishReason: FinishReason.STOP,
      matchedStop: stop,
      usage: { completionTokens: lastToken + 1 },
    });
  });

  it('that is only begun at the end is part of the text', async () => {
    const call = await ask({ sampling: { maxTokens: 1, stop: ['unctionterminal'] } });
    expect(call.text).toBe('unction');
    expect(call.finished?.finishReason).toBe(FinishReason.LENGTH);
  });

  it('frees its sequence', async () => {
    await ask({ sampling: { stop: ['nte'], maxTokens: 2000, ignoreEos: true } });
    await served.idle();
  });
});

describe('limits', () => {
  it('a stop token ends the answer and is not part of it', async () => {
    const id = greedy.tokenIds[4]!;
    const call = await ask({ sampling: { stopTokenIds: [900, id] } });
    expect(call.tokenIds).toEqual(greedy.tokenIds.slice(0, greedy.tokenIds.indexOf(id)));
    expect(call.finished).toMatchObject({
      finishReason: FinishReason.STOP,
      matchedStopTokenId: id,
      usage: { completionTokens: 4 },
    });
  });

  it.each([1, 5])('max_tokens %i', async (maxTokens) => {
    const call = await ask({ sampling: { maxTokens } });
    expect(call.tokenIds).toEqual(greedy.tokenIds.slice(0, maxTokens));
    expect(call.finished?.finishReason).toBe(FinishReason.LENGTH);
  });

  it('min_tokens puts the end of the sequence off', async () => {
    const call = await ask({ sampling: { minTokens: 12 } }, short);
    expect(call.tokenIds.slice(0, 7)).toEqual(short.tokenIds);
    expect(call.tokenIds.length).toBeGreaterThanOrEqual(12);
    expect(call.tokenIds).not.toContain(EOS);
  });

  it('min_tokens puts stop tokens and stop strings off', async () => {
    const stop = greedy.text.slice(0, 3);
    const call = await ask({
      sampling: { minTokens: 10, maxTokens: 12, stop: [stop], stopTokenIds: [greedy.tokenIds[1]!] },
    });
    expect(call.tokenIds.length).toBeGreaterThanOrEqual(10);
    expect(call.text.startsWith(stop)).toBe(true);
  });

  it('ignore_eos goes on past the end of the sequence', async () => {
    const call = await ask({ sampling: { ignoreEos: true, maxTokens: 20 } }, short);
    expect(call.tokenIds).toHaveLength(20);
    expect(call.tokenIds.slice(0, 8)).toEqual([...short.tokenIds, EOS]);
    expect(call.finished?.finishReason).toBe(FinishReason.LENGTH);
  });

  it('an answer without a limit ends with the context', async () => {
    const room = (await served.model()).maxModelLength - greedy.prompt.ids.length;
    const call = await ask({ sampling: { ignoreEos: true, maxTokens: room } });
    expect(call.tokenIds).toHaveLength(room);
    expect(call.finished?.finishReason).toBe(FinishReason.LENGTH);
  });
});

describe('a repetition penalty', () => {
  it('high enough lets nothing come twice, nor what the prompt says', async () => {
    const call = await ask({ sampling: { repetitionPenalty: 1000 } });
    expect(new Set(call.tokenIds).size).toBe(call.tokenIds.length);
    expect(call.tokenIds.filter((id) => greedy.prompt.ids.includes(id))).toEqual([]);
  });

  it('of 1 changes nothing', async () => {
    expect((await ask({ sampling: { repetitionPenalty: 1 } })).tokenIds).toEqual(greedy.tokenIds);
  });
});

describe('log-probabilities', () => {
  it('are of the unmodified distribution, best first, as many as asked for', async () => {
    const call = await ask({ sampling: { temperature: 2, topK: 5, seed: 1n }, logprobs: 20 });
    expect(call.logprobs).toHaveLength(call.tokenIds.length);
    for (const [step, { tokenId, logprob, top }] of call.logprobs.entries()) {
      expect(tokenId).toBe(call.tokenIds[step]);
      const values = top.map((entry) => entry.logprob);
      expect(values).toHaveLength(20);
      expect(values).toEqual(values.toSorted((a, b) => b - a));
      expect(logprob).toBe(top.find((entry) => entry.tokenId === tokenId)?.logprob);
      expect(values.reduce((sum, value) => sum + Math.exp(value), 0)).toBeLessThan(1.0001);
    }
    const [first] = call.logprobs;
    for (const [at, [id, value]] of greedy.top[0]!.entries()) {
      expect(first!.top[at]!.tokenId).toBe(id);
      expect(first!.top[at]!.logprob).toBeCloseTo(value, 3);
    }
  });

  it('of 0 are those of the chosen tokens alone', async () => {
    const { logprobs } = await ask({ sampling: { maxTokens: 3 }, logprobs: 0 });
    expect(logprobs.map(({ top }) => top)).toEqual([[], [], []]);
    for (const [step, { logprob }] of logprobs.entries())
      expect(logprob).toBeCloseTo(greedy.top[step]![0]![1], 3);
  });

  it('come only when asked for', async () => {
    expect((await ask({ sampling: { maxTokens: 3 } })).logprobs).toEqual([]);
  });
});
