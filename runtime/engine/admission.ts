// What the engine takes. Pure: the server asks before it submits, so that a bad request ends in a clear error and disturbs nothing else.

import type { EngineInfo, ImageSpan } from './engine.ts';
import type { SamplingParams } from './sampling-params.ts';

/** The parts of a Submission that are checked. */
export interface SubmissionRequest {
  readonly tokenIds: Uint32Array;
  readonly images: readonly Pick<ImageSpan, 'offset' | 'length'>[];
  readonly sampling: SamplingParams;
  readonly logprobs: number | undefined;
}

export interface SubmissionLimits {
  /** Tokens that a picture takes in the prompt. */
  readonly imageTokens: number;
  /** Pictures in one prompt. */
  readonly maxImages: number;
  readonly maxStopTokenIds: number;
  readonly maxLogprobs: number;
}

/** Why a submission is refused. `code` is a gRPC status name, `reason` an ErrorInfo reason. */
export interface Refusal {
  readonly code: 'INVALID_ARGUMENT';
  readonly reason:
    | 'EMPTY_PROMPT'
    | 'CONTEXT_LENGTH_EXCEEDED'
    | 'KV_CACHE_EXCEEDED'
    | 'INVALID_SAMPLING'
    | 'INVALID_TOKEN'
    | 'INVALID_IMAGE_SPAN'
    | 'TOO_MANY_IMAGES';
  readonly message: string;
}

/** The first thing wrong with a submission, or undefined when the engine can serve it to its end. */
export function checkSubmission(
  request: SubmissionRequest,
  info: EngineInfo,
  limits: SubmissionLimits,
): Refusal | undefined {
  return (
    checkSampling(request, info, limits) ??
    checkTokens(request.tokenIds, info) ??
    checkImages(request, limits) ??
    checkLength(request, info)
  );
}

/** Why the engine cannot even start it: no prompt, one that context or KV cache cannot hold, tokens or pictures that do not exist. */
export function fitProblem(
  request: Pick<SubmissionRequest, 'tokenIds' | 'images'>,
  info: EngineInfo,
): Refusal | undefined {
  const length = request.tokenIds.length;
  if (length + 1 > info.maxModelLength) {
    return refusal(
      'CONTEXT_LENGTH_EXCEEDED',
      `the prompt has ${String(length)} tokens: with one more it exceeds the context of ${String(info.maxModelLength)}`,
    );
  }
  return checkTokens(request.tokenIds, info) ?? checkSpans(request) ?? checkBlocks(length, info);
}

function checkSampling(
  { sampling, logprobs }: SubmissionRequest,
  info: EngineInfo,
  limits: SubmissionLimits,
): Refusal | undefined {
  const { temperature, topP, topK, repetitionPenalty, maxTokens, minTokens, stopTokenIds } = sampling;
  const rules: [boolean, string][] = [
    [
      Number.isFinite(temperature) && temperature >= 0,
      `temperature is ${String(temperature)}: it must be finite and at least 0`,
    ],
    [topP > 0 && topP <= 1, `top_p is ${String(topP)}: it must be above 0 and at most 1`],
    [isCount(topK), `top_k is ${String(topK)}: it must be a whole number of at least 0`],
    [
      Number.isFinite(repetitionPenalty) && repetitionPenalty > 0,
      `repetition_penalty is ${String(repetitionPenalty)}: it must be finite and above 0`,
    ],
    [
      isCount(maxTokens) && maxTokens >= 1,
      `max_tokens is ${String(maxTokens)}: it must be a whole number of at least 1`,
    ],
    [
      isCount(minTokens) && minTokens <= maxTokens,
      `min_tokens is ${String(minTokens)}: it must be a whole number of at most max_tokens, ${String(maxTokens)}`,
    ],
    [
      stopTokenIds.length <= limits.maxStopTokenIds,
      `${String(stopTokenIds.length)} stop token ids: at most ${String(limits.maxStopTokenIds)} are taken`,
    ],
    [
      logprobs === undefined || (isCount(logprobs) && logprobs <= limits.maxLogprobs),
      `logprobs is ${String(logprobs)}: it must be a whole number of at most ${String(limits.maxLogprobs)}`,
    ],
  ];
  for (const [holds, message] of rules) if (!holds) return refusal('INVALID_SAMPLING', message);
  const outside = stopTokenIds.find((id) => !(isCount(id) && id < info.vocabSize));
  if (outside === undefined) return undefined;
  return refusal(
    'INVALID_TOKEN',
    `stop token id ${String(outside)} is outside the vocabulary of ${String(info.vocabSize)}`,
  );
}

function checkTokens(tokenIds: Uint32Array, info: EngineInfo): Refusal | undefined {
  if (tokenIds.length === 0) return refusal('EMPTY_PROMPT', 'the prompt has no tokens');
  const at = tokenIds.findIndex((id) => id >= info.vocabSize);
  if (at === -1) return undefined;
  return refusal(
    'INVALID_TOKEN',
    `token ${String(at)} of the prompt is ${String(tokenIds[at])}, outside the vocabulary of ${String(info.vocabSize)}`,
  );
}

function checkImages(request: SubmissionRequest, limits: SubmissionLimits): Refusal | undefined {
  const { images } = request;
  if (images.length > limits.maxImages) {
    return refusal(
      'TOO_MANY_IMAGES',
      `the prompt has ${String(images.length)} images: at most ${String(limits.maxImages)} are taken`,
    );
  }
  const wrong = images.find(({ length }) => length !== limits.imageTokens);
  if (wrong !== undefined) {
    return refusal(
      'INVALID_IMAGE_SPAN',
      `${nameOf(wrong)}: an image takes ${String(limits.imageTokens)} tokens`,
    );
  }
  return checkSpans(request);
}

function checkSpans({
  tokenIds,
  images,
}: Pick<SubmissionRequest, 'tokenIds' | 'images'>): Refusal | undefined {
  let end = 0;
  for (const image of images.toSorted((a, b) => a.offset - b.offset)) {
    const { offset, length } = image;
    if (!isCount(offset) || !isCount(length) || length === 0 || offset + length > tokenIds.length) {
      return refusal(
        'INVALID_IMAGE_SPAN',
        `${nameOf(image)} is outside the prompt of ${String(tokenIds.length)}`,
      );
    }
    if (offset < end) {
      return refusal('INVALID_IMAGE_SPAN', `${nameOf(image)} overlaps the image before it`);
    }
    end = offset + length;
  }
  return undefined;
}

function nameOf({ offset, length }: { readonly offset: number; readonly length: number }): string {
  return `the image of ${String(length)} tokens at token ${String(offset)}`;
}

function checkLength({ tokenIds, sampling }: SubmissionRequest, info: EngineInfo): Refusal | undefined {
  const { maxTokens } = sampling;
  if (tokenIds.length + maxTokens > info.maxModelLength) {
    return refusal(
      'CONTEXT_LENGTH_EXCEEDED',
      `the prompt's ${String(tokenIds.length)} tokens and max_tokens of ${String(maxTokens)} exceed the context of ${String(info.maxModelLength)}`,
    );
  }
  // The last generated token is never computed.
  return checkBlocks(tokenIds.length + maxTokens - 1, info);
}

function checkBlocks(numTokens: number, { blockSize, kvBlocks }: EngineInfo): Refusal | undefined {
  const blocks = Math.ceil(numTokens / blockSize);
  if (blocks <= kvBlocks) return undefined;
  return refusal(
    'KV_CACHE_EXCEEDED',
    `${String(numTokens)} tokens take ${String(blocks)} KV blocks: the replica has ${String(kvBlocks)}`,
  );
}

function isCount(value: number): boolean {
  return Number.isSafeInteger(value) && value >= 0;
}

function refusal(reason: Refusal['reason'], message: string): Refusal {
  return { code: 'INVALID_ARGUMENT', reason, message };
}
