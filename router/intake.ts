// From what a client sent to work that a replica can be given: checked, tokenized, its pictures kept.

import { status } from '@grpc/grpc-js';
import { RpcError } from '../rpc/status.ts';
import { Priority, type GenerateRequest, type Message } from '../gen/proto/internvl/v1/inference.ts';
import type { Prompt } from '../runtime/tokenizer/prompt.ts';
import type { Background } from './background.ts';
import { chatOf, type ServedModel } from './models.ts';
import type { PictureStore } from './picture-store.ts';
import { invalid } from './refusal.ts';
import type { Work } from './request.ts';
import {
  checkContext,
  checkMessages,
  checkRequest,
  type ChatMessage,
  type RequestLimits,
} from './validate.ts';
import type { PictureSource } from './validate-picture.ts';

/** A request that may be queued. */
export interface Admitted {
  readonly work: Work;
  readonly imageTokens: number;
  /** Bytes of its prompt and its pictures. */
  readonly bytes: number;
  /** Lets go of its pictures; call it once no replica can need them any more. Calling it again does nothing. */
  readonly releasePictures: () => void;
}

const BYTES_PER_TOKEN = 8;
/** Longer texts are tokenized in the background: here that is about a millisecond. */
const LONG_TEXT = 4_096;

/** About what a request costs to hold before it is tokenized. */
export function bytesOf(request: GenerateRequest): number {
  let bytes = 0;
  for (const { parts } of request.messages) {
    for (const { part } of parts) {
      if (part?.$case === 'text') bytes += part.value.length;
      else if (part?.value.source?.$case === 'data') bytes += part.value.source.value.length;
    }
  }
  return bytes;
}

/** True when `prepare` has to come before `admit`, or others would wait for it. */
export function isHeavy(messages: readonly Message[]): boolean {
  let characters = 0;
  for (const { parts } of messages)
    for (const { part } of parts) if (part?.$case === 'text') characters += part.value.length;
  return characters > LONG_TEXT;
}

/** The prompt of long texts, made in the background. Throws RpcError. */
export function prepare(
  messages: readonly Message[],
  model: ServedModel,
  limits: RequestLimits,
  background: Background,
): Promise<Prompt> {
  return background.prompt(model, chatOf(checkMessages(messages, limits))).catch(badPrompt);
}

/** Throws RpcError when the request cannot be served; then it holds nothing. `prepared`: its prompt, if there is one already. */
export function admit(
  request: GenerateRequest,
  deadlineAt: number | undefined,
  model: ServedModel,
  limits: RequestLimits,
  pictures: PictureStore,
  prepared?: Prompt,
): Admitted {
  checkRequest(request, limits);
  const messages = checkMessages(request.messages, limits);
  const prompt = prepared ?? promptOf(model, messages);
  const { sampling } = request;
  const maxTokens = checkContext(prompt.tokenIds.length, sampling, limits);
  const sources = picturesOf(messages);
  const { hashes, bytes, release } = keepPictures(sources, pictures);
  const logprobs = request.output?.logprobs;
  return {
    work: {
      tokenIds: prompt.tokenIds,
      pictures: prompt.images.map(({ offset, length }, index) => ({ hash: hashes[index]!, offset, length })),
      sampling: {
        ...sampling,
        stop: [],
        stopTokenIds: sampling?.stopTokenIds ?? [],
        ignoreEos: sampling?.ignoreEos ?? false,
        maxTokens,
      },
      logprobs,
      priorityClass: priorityClass(request.priority),
      deadlineAt,
      cacheSalt: request.cacheSalt,
    },
    imageTokens: prompt.images.reduce((sum, { length }) => sum + length, 0),
    bytes: bytes + prompt.tokenIds.length * BYTES_PER_TOKEN,
    releasePictures: release,
  };
}

/** The prompt of checked messages; what the template refuses is the caller's mistake. */
export function promptOf(model: ServedModel, messages: readonly ChatMessage[]): Prompt {
  try {
    return model.prompt(chatOf(messages));
  } catch (error) {
    return badPrompt(error);
  }
}

function badPrompt(error: unknown): never {
  if (!(error instanceof Error) || error.name !== 'PromptError') throw error;
  throw invalid('messages', '', '', error.message, 'BAD_PROMPT');
}

function picturesOf(messages: readonly ChatMessage[]): PictureSource[] {
  return messages.flatMap(({ parts }) => parts.flatMap((part) => ('picture' in part ? [part.picture] : [])));
}

function keepPictures(
  sources: readonly PictureSource[],
  store: PictureStore,
): { readonly hashes: readonly string[]; readonly bytes: number; readonly release: () => void } {
  const hashes: string[] = [];
  const release = (): void => {
    for (const hash of hashes.splice(0)) store.unpin(hash);
  };
  let bytes = 0;
  try {
    for (const source of sources) {
      const hash = keepPicture(source, store);
      hashes.push(hash);
      bytes += store.file(hash)!.length;
    }
  } catch (error) {
    release();
    throw error;
  }
  return { hashes: [...hashes], bytes, release };
}

function keepPicture(source: PictureSource, store: PictureStore): string {
  if ('hash' in source && !store.has(source.hash)) {
    throw new RpcError(
      status.NOT_FOUND,
      'IMAGE_NOT_FOUND',
      `the picture ${source.hash} is not held here (any more): send its file`,
      {
        metadata: { field: 'image.hash', value: source.hash },
      },
    );
  }
  const hash = 'hash' in source ? (store.pin(source.hash) ? source.hash : undefined) : store.add(source.data);
  if (hash !== undefined) return hash;
  throw new RpcError(
    status.RESOURCE_EXHAUSTED,
    'QUEUE_FULL',
    `the pictures of waiting requests already hold ${store.pinnedBytes} bytes`,
    {
      metadata: { value: String(store.pinnedBytes) },
      retryAfterMs: 1_000,
    },
  );
}

function priorityClass(priority: Priority): number {
  if (priority === Priority.BATCH) return 0;
  return priority === Priority.HIGH ? 2 : 1;
}
