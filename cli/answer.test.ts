import { describe, expect, it } from 'vitest';
import { FinishReason } from '../gen/proto/internvl/v1/generation.ts';
import type { Finished } from '../gen/proto/internvl/v1/inference.ts';
import { AnswerBuilder } from './answer.ts';

function finished(finishReason: FinishReason): { event: { $case: 'finished'; value: Finished } } {
  const usage = { promptTokens: 5, imageTokens: 0, cachedTokens: 1, completionTokens: 2 };
  const timings = { queueMs: 1, timeToFirstTokenMs: 2, totalMs: 3 };
  return {
    event: {
      $case: 'finished',
      value: { finishReason, matchedStop: '', matchedStopTokenId: 7, usage, timings },
    },
  };
}

function builder(): AnswerBuilder {
  const answer = new AnswerBuilder();
  answer.add({
    event: {
      $case: 'started',
      value: { requestId: 'r', promptTokens: 5, imageTokens: 0, replica: 'x', promptTokenIds: [1, 2] },
    },
  });
  for (const [id, text] of [
    [11, 'Bl'],
    [12, 'ue.'],
  ] as const) {
    const logprobs = [{ tokenId: id, logprob: -0.5, top: [{ tokenId: id, logprob: -0.5 }] }];
    answer.add({ event: { $case: 'delta', value: { text, tokenIds: [id], logprobs } } });
  }
  return answer;
}

describe('AnswerBuilder', () => {
  it('gathers what scripts read, and nothing else', () => {
    const answer = builder();
    answer.add(finished(FinishReason.STOP));
    expect(answer.build()).toEqual({
      text: 'Blue.',
      tokenIds: [11, 12],
      promptTokenIds: [1, 2],
      finishReason: 'stop',
      usage: { promptTokens: 5, imageTokens: 0, cachedTokens: 1, completionTokens: 2 },
      logprobs: [
        { tokenId: 11, logprob: -0.5, top: [{ tokenId: 11, logprob: -0.5 }] },
        { tokenId: 12, logprob: -0.5, top: [{ tokenId: 12, logprob: -0.5 }] },
      ],
      timings: { queueMs: 1, timeToFirstTokenMs: 2, totalMs: 3 },
    });
  });

  it.each([
    [FinishReason.STOP, 'stop'],
    [FinishReason.LENGTH, 'length'],
    [FinishReason.ABORT, 'abort'],
    [FinishReason.UNSPECIFIED, 'abort'],
  ])('calls reason %i %s', (reason, name) => {
    const answer = builder();
    answer.add(finished(reason));
    expect(answer.build()?.finishReason).toBe(name);
  });

  it('is no answer before it is finished, but has the text so far', () => {
    expect(builder().build()).toBeUndefined();
    expect(builder().text).toBe('Blue.');
  });
});
