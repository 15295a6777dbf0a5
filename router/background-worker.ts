// The thread behind `Background`: does one job after the other.

import { parentPort } from 'node:worker_threads';
import {
  buildPrompt,
  PromptError,
  type Prompt,
  type PromptErrorCode,
  type PromptModel,
} from '../runtime/tokenizer/prompt.ts';
import { Tokenizer } from '../runtime/tokenizer/tokenizer.ts';
import { RpcError, type RpcErrorOptions } from '../rpc/status.ts';
import {
  decodeRequest,
  MalformedRequest,
  picturesIn,
  type DecodedRequest,
  type RequestTypes,
} from './decode-request.ts';
import type { Chat, TokenizerFiles } from './models.ts';

export type BackgroundJob =
  | {
      readonly kind: 'request';
      readonly type: keyof RequestTypes;
      readonly pieces: readonly Uint8Array<ArrayBuffer>[];
    }
  | {
      readonly kind: 'prompt';
      readonly chat: Chat;
      readonly promptModel: PromptModel;
      /** Absent = the tokenizer of the job before. */
      readonly files?: TokenizerFiles;
    };

export type BackgroundAnswer =
  | ({ readonly kind: 'request' } & DecodedRequest)
  | { readonly kind: 'prompt'; readonly prompt: Prompt }
  | { readonly kind: 'bad prompt'; readonly code: PromptErrorCode; readonly message: string }
  | { readonly kind: 'malformed'; readonly message: string }
  | ({ readonly kind: 'refused' } & Pick<RpcError, 'code' | 'reason' | 'message'> &
      Pick<RpcErrorOptions, 'metadata'>);

let tokenizer: Tokenizer | undefined;

function run(job: BackgroundJob): BackgroundAnswer {
  return job.kind === 'request' ? decode(job.type, Buffer.concat(job.pieces)) : prompt(job);
}

function decode(type: keyof RequestTypes, bytes: Uint8Array): BackgroundAnswer {
  try {
    return { kind: 'request', ...decodeRequest(type, bytes) };
  } catch (error) {
    if (error instanceof MalformedRequest) return { kind: 'malformed', message: error.message };
    if (!(error instanceof RpcError)) throw error;
    const { code, reason, message, metadata } = error;
    return { kind: 'refused', code, reason, message, metadata };
  }
}

function prompt(job: BackgroundJob & { kind: 'prompt' }): BackgroundAnswer {
  if (job.files !== undefined) tokenizer = Tokenizer.fromFiles(job.files);
  if (tokenizer === undefined) throw new Error('a prompt came before its tokenizer');
  try {
    return { kind: 'prompt', prompt: buildPrompt(tokenizer, job.chat, job.promptModel) };
  } catch (error) {
    if (!(error instanceof PromptError)) throw error;
    return { kind: 'bad prompt', code: error.code, message: error.message };
  }
}

parentPort!.on('message', ({ id, job }: { id: number; job: BackgroundJob }) => {
  const answer = run(job);
  const moved =
    answer.kind === 'request'
      ? Array.from(picturesIn(answer.request.messages), ({ value }) => value.buffer as ArrayBuffer)
      : [];
  parentPort!.postMessage({ id, answer }, moved);
});
