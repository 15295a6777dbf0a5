// The thread behind `Background`: does one job after the other.

import { createHash } from 'node:crypto';
import { parentPort } from 'node:worker_threads';
import {
  buildPrompt,
  PromptError,
  type Prompt,
  type PromptErrorCode,
  type PromptModel,
} from '../runtime/tokenizer/prompt.ts';
import { Tokenizer } from '../runtime/tokenizer/tokenizer.ts';
import type { Chat, TokenizerFiles } from './models.ts';

export type BackgroundJob =
  | { readonly kind: 'hash'; readonly data: Uint8Array<ArrayBuffer> }
  | {
      readonly kind: 'prompt';
      readonly chat: Chat;
      readonly promptModel: PromptModel;
      /** Absent = the tokenizer of the job before. */
      readonly files?: TokenizerFiles;
    };

export type BackgroundAnswer =
  | { readonly kind: 'hash'; readonly hash: string; readonly data: Uint8Array<ArrayBuffer> }
  | { readonly kind: 'prompt'; readonly prompt: Prompt }
  | { readonly kind: 'refused'; readonly code: PromptErrorCode; readonly message: string };

let tokenizer: Tokenizer | undefined;

function run(job: BackgroundJob): BackgroundAnswer {
  if (job.kind === 'hash') {
    const { data } = job;
    return { kind: 'hash', hash: createHash('sha256').update(data).digest('hex'), data };
  }
  if (job.files !== undefined) tokenizer = Tokenizer.fromFiles(job.files);
  if (tokenizer === undefined) throw new Error('a prompt came before its tokenizer');
  try {
    return { kind: 'prompt', prompt: buildPrompt(tokenizer, job.chat, job.promptModel) };
  } catch (error) {
    if (!(error instanceof PromptError)) throw error;
    return { kind: 'refused', code: error.code, message: error.message };
  }
}

parentPort!.on('message', ({ id, job }: { id: number; job: BackgroundJob }) => {
  const answer = run(job);
  parentPort!.postMessage({ id, answer }, answer.kind === 'hash' ? [answer.data.buffer] : []);
});
