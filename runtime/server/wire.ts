// The engine protocol's messages from and to the engine's own types.

import { FinishReason as WireFinishReason } from '../../gen/proto/internvl/v1/generation.ts';
import type { Sampling, TokenLogprob as WireTokenLogprob } from '../../gen/proto/internvl/v1/generation.ts';
import type { Done, Submit } from '../../gen/proto/internvl/engine/v1/engine.ts';
import { checkSubmission } from '../engine/admission.ts';
import type { Refusal } from '../engine/admission.ts';
import type { FinishReason, FinishedSequence, Submission, TokenLogprob } from '../engine/engine.ts';
import { resolveSampling } from '../engine/sampling-defaults.ts';
import type { SamplingParams } from '../engine/sampling-params.ts';
import type { Replica } from './replica.ts';

/** A picture of a prompt whose pixels are still to be found. */
export interface RequestedImage {
  /** Lower-case hex SHA-256. */
  readonly hash: string;
  readonly offset: number;
  readonly length: number;
}

/** A submission that the engine can serve once its pictures are there. */
export interface Request extends Omit<Submission, 'images'> {
  readonly images: readonly RequestedImage[];
}

/** Why a submission is refused. */
export interface BadRequest {
  readonly code: 'INVALID_ARGUMENT';
  readonly reason: Refusal['reason'] | 'INVALID_IMAGE_HASH';
  readonly message: string;
}

/** Reads and checks a submission against what the replica can serve. */
export function readSubmit(submit: Submit, replica: Replica): Request | BadRequest {
  const tokenIds = Uint32Array.from(submit.tokenIds);
  const images: RequestedImage[] = [];
  for (const { hash, offset, length } of submit.images) {
    if (hash.length !== 32) {
      return {
        code: 'INVALID_ARGUMENT',
        reason: 'INVALID_IMAGE_HASH',
        message: `the picture at token ${offset} has a hash of ${hash.length} bytes: SHA-256 has 32`,
      };
    }
    images.push({ hash: hash.toString('hex'), offset, length });
  }
  const request: Request = {
    handle: submit.handle,
    tokenIds,
    images,
    sampling: readSampling(submit.sampling, replica, tokenIds.length),
    logprobs: submit.logprobs,
    priority: submit.priority,
    cacheSalt: submit.cacheSalt,
  };
  return (
    checkSubmission(request, replica.info, replica.limits) ?? checkImageTokens(request, replica) ?? request
  );
}

export function isBadRequest(result: Request | BadRequest): result is BadRequest {
  return 'code' in result;
}

// An image token without a picture would be embedded as text: the answer would be wrong without a word.
function checkImageTokens({ tokenIds, images }: Request, replica: Replica): BadRequest | undefined {
  const inside = new Set<number>();
  for (const { offset, length } of images) {
    for (let at = offset; at < offset + length; at += 1) inside.add(at);
  }
  for (const [at, id] of tokenIds.entries()) {
    if ((id === replica.imageTokenId) === inside.has(at)) continue;
    return {
      code: 'INVALID_ARGUMENT',
      reason: 'INVALID_IMAGE_SPAN',
      message: inside.has(at)
        ? `token ${at} lies in a picture but is ${id}, not the image token ${replica.imageTokenId}`
        : `token ${at} is the image token ${id} but lies in no picture`,
    };
  }
  return undefined;
}

/** Fills in what a request's sampling leaves out. */
export function readSampling(
  sampling: Sampling | undefined,
  replica: Replica,
  promptLength: number,
): SamplingParams {
  const room = replica.info.maxModelLength - promptLength;
  return resolveSampling(sampling ?? {}, replica.samplingDefaults, room);
}

const FINISH_REASONS: Readonly<Record<Exclude<FinishReason, 'error'>, WireFinishReason>> = {
  stop: WireFinishReason.STOP,
  length: WireFinishReason.LENGTH,
  abort: WireFinishReason.ABORT,
};

/** The end of a sequence as the wire has it; one that ended with 'error' is a Rejected, not a Done. */
export function toDone(finished: FinishedSequence): Done {
  return {
    handle: finished.handle,
    finishReason:
      finished.reason === 'error' ? WireFinishReason.UNSPECIFIED : FINISH_REASONS[finished.reason],
    matchedStopTokenId: finished.matchedStopTokenId,
    cachedTokens: finished.cachedTokens,
    queueUs: toUint32(finished.queueUs),
    firstTokenUs: toUint32(finished.firstTokenUs),
    totalUs: toUint32(finished.totalUs),
  };
}

export function toWireLogprobs(tokens: readonly TokenLogprob[]): WireTokenLogprob[] {
  return tokens.map(({ tokenId, logprob, top }) => ({
    tokenId,
    logprob,
    top: top.map((entry) => ({ ...entry })),
  }));
}

/** Durations beyond 71 minutes read as that. */
function toUint32(value: number): number {
  return Math.min(0xffffffff, Math.max(0, Math.round(value)));
}
