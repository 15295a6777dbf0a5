import type { GenerateResult } from '../gen/proto/internvl/v1/inference.ts';
import type { AnswerSink } from './answer.ts';

/** Gathers a streamed answer into the one message of GenerateOnce. Bounded by the request's max_tokens. */
export function collectResult(): { readonly sink: AnswerSink; readonly value: () => GenerateResult } {
  const result: GenerateResult = {
    requestId: '',
    text: '',
    tokenIds: [],
    promptTokenIds: [],
    finishReason: 0,
    matchedStop: '',
    logprobs: [],
    usage: undefined,
    timings: undefined,
    replica: '',
  };
  const texts: string[] = [];
  return {
    sink: {
      started: ({ requestId, replica, promptTokenIds }) =>
        Object.assign(result, { requestId, replica, promptTokenIds }),
      delta: ({ text, tokenIds, logprobs }) => {
        texts.push(text);
        for (const id of tokenIds) result.tokenIds.push(id);
        for (const logprob of logprobs) result.logprobs.push(logprob);
      },
      finished: (finished) => Object.assign(result, finished),
    },
    value: () => ({ ...result, text: texts.join('') }),
  };
}
