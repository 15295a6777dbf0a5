// What a request must look like, checked before anything is spent on it. Every refusal names the field, its value and the limit.

import { status } from '@grpc/grpc-js';
import type { Sampling } from '../gen/proto/internvl/v1/generation.ts';
import { Priority, Role, type GenerateRequest, type Message } from '../gen/proto/internvl/v1/inference.ts';
import { RpcError } from '../rpc/status.ts';
import { checkPicture, type PictureSource } from './validate-picture.ts';
import { invalid } from './refusal.ts';

/** The limits of what is served now. */
export interface RequestLimits {
  readonly servedName: string;
  readonly maxModelLength: number;
  readonly vocabSize: number;
  readonly maxImages: number;
  readonly maxImageBytes: number;
}

export type ChatPart = { readonly text: string } | { readonly picture: PictureSource };

export interface ChatMessage {
  readonly role: 'system' | 'user' | 'assistant';
  readonly parts: readonly ChatPart[];
}

const MAX_REQUEST_ID = 128;
const MAX_KEY = 256;
const MAX_STOPS = 16;
const MAX_STOP_LENGTH = 1024;
const MAX_STOP_TOKENS = 64;
const MAX_LOGPROBS = 20;
const DEFAULT_MAX_TOKENS = 512;
/** No vocabulary of this family has a piece longer than this, so a longer text cannot fit the context and is not worth tokenizing. */
const MAX_CHARACTERS_PER_TOKEN = 64;

/** Throws NOT_FOUND that names what is served; an empty name means the only model. */
export function checkModel(model: string, servedName: string): void {
  if (model === '' || model === servedName) return;
  throw new RpcError(
    status.NOT_FOUND,
    'MODEL_NOT_FOUND',
    `there is no model '${model}' here: this server serves '${servedName}'`,
    { metadata: { field: 'model', value: model, limit: servedName } },
  );
}

/** Checks everything of a request but its prompt's length; the messages are checked by `checkMessages`. */
export function checkRequest(request: GenerateRequest, limits: RequestLimits): void {
  checkModel(request.model, limits.servedName);
  checkLength('request_id', request.requestId, MAX_REQUEST_ID);
  checkLength('affinity_key', request.affinityKey, MAX_KEY);
  checkLength('cache_salt', request.cacheSalt, MAX_KEY);
  if (!Object.values(Priority).includes(request.priority)) {
    throw invalid(
      'priority',
      String(request.priority),
      'PRIORITY_BATCH, PRIORITY_NORMAL, PRIORITY_HIGH',
      `priority ${request.priority} is not known`,
    );
  }
  const logprobs = request.output?.logprobs;
  if (logprobs !== undefined && logprobs > MAX_LOGPROBS) {
    throw invalid(
      'output.logprobs',
      String(logprobs),
      `0..${MAX_LOGPROBS}`,
      `output.logprobs is ${logprobs}; at most ${MAX_LOGPROBS} are returned`,
    );
  }
  if (request.sampling !== undefined) checkSampling(request.sampling, limits);
}

function checkSampling(sampling: Sampling, limits: RequestLimits): void {
  const { temperature, topP, repetitionPenalty, maxTokens, minTokens } = sampling;
  const number = (
    field: string,
    value: number | undefined,
    ok: (value: number) => boolean,
    limit: string,
  ): void => {
    if (value === undefined || (Number.isFinite(value) && ok(value))) return;
    throw invalid(
      `sampling.${field}`,
      String(value),
      limit,
      `sampling.${field} is ${value}; it must be ${limit}`,
    );
  };
  number('temperature', temperature, (value) => value >= 0, 'finite and >= 0');
  number('top_p', topP, (value) => value > 0 && value <= 1, '> 0 and <= 1');
  number('repetition_penalty', repetitionPenalty, (value) => value > 0, 'finite and > 0');
  number('max_tokens', maxTokens, (value) => value >= 1, '>= 1');
  if (minTokens !== undefined && minTokens > (maxTokens ?? limits.maxModelLength)) {
    const most = maxTokens ?? limits.maxModelLength;
    throw invalid(
      'sampling.min_tokens',
      String(minTokens),
      `<= ${most}`,
      `sampling.min_tokens is ${minTokens}, more than the ${most} tokens that may be generated`,
    );
  }
  checkCount('sampling.stop', sampling.stop.length, MAX_STOPS);
  for (const [index, stop] of sampling.stop.entries()) {
    if (stop === '')
      throw invalid(`sampling.stop[${index}]`, '', 'not empty', `sampling.stop[${index}] is empty`);
    checkLength(`sampling.stop[${index}]`, stop, MAX_STOP_LENGTH);
  }
  checkCount('sampling.stop_token_ids', sampling.stopTokenIds.length, MAX_STOP_TOKENS);
  for (const [index, id] of sampling.stopTokenIds.entries()) {
    if (id < limits.vocabSize) continue;
    throw invalid(
      `sampling.stop_token_ids[${index}]`,
      String(id),
      `< ${limits.vocabSize}`,
      `sampling.stop_token_ids[${index}] is ${id}; the vocabulary has ${limits.vocabSize} tokens`,
    );
  }
}

/** The conversation: optionally a system message, then user and assistant in turn, the last the user's; pictures are the user's. */
export function checkMessages(messages: readonly Message[], limits: RequestLimits): ChatMessage[] {
  if (messages.length === 0)
    throw invalid('messages', '0', '>= 1', 'messages is empty: there is nothing to answer');
  let pictures = 0;
  let characters = 0;
  const checked = messages.map((message, index) => {
    const role = checkRole(messages, index);
    const parts = message.parts.map((part, at) =>
      checkPart(part.part, `messages[${index}].parts[${at}]`, role, limits),
    );
    for (const part of parts) {
      if ('text' in part) characters += part.text.length;
      else pictures++;
    }
    if (role !== 'system' && parts.every((part) => 'text' in part && part.text === '')) {
      throw invalid(
        `messages[${index}]`,
        '',
        'text or a picture',
        `messages[${index}] is empty: a ${role} message needs text${role === 'user' ? ' or a picture' : ''}`,
        'EMPTY_MESSAGE',
      );
    }
    return { role, parts };
  });
  if (checked.at(-1)!.role !== 'user') {
    throw invalid(
      'messages',
      checked.at(-1)!.role,
      'ends with a user message',
      "the last message must be the user's: it is what gets answered",
      'ROLE_ORDER',
    );
  }
  if (pictures > limits.maxImages) {
    throw invalid(
      'messages',
      String(pictures),
      String(limits.maxImages),
      `the request has ${pictures} pictures; at most ${limits.maxImages} are allowed`,
      'TOO_MANY_IMAGES',
    );
  }
  const most = limits.maxModelLength * MAX_CHARACTERS_PER_TOKEN;
  if (characters > most) {
    throw invalid(
      'messages',
      String(characters),
      String(most),
      `the request has ${characters} characters of text, which cannot fit the context of ${limits.maxModelLength} tokens`,
      'PROMPT_TOO_LONG',
    );
  }
  return checked;
}

function checkRole(messages: readonly Message[], index: number): ChatMessage['role'] {
  const first = messages[0]!.role === Role.SYSTEM ? 1 : 0;
  const { role } = messages[index]!;
  if (index < first) return 'system';
  const expected = (index - first) % 2 === 0 ? 'user' : 'assistant';
  if ((role === Role.USER && expected === 'user') || (role === Role.ASSISTANT && expected === 'assistant'))
    return expected;
  const name = Object.entries(Role).find(([, value]) => value === role)?.[0] ?? String(role);
  throw invalid(
    `messages[${index}].role`,
    name,
    expected,
    `messages[${index}] is of role ${name} where ${expected} is due: one system message may come first, then user and assistant take turns`,
    'ROLE_ORDER',
  );
}

function checkPart(
  part: Message['parts'][number]['part'],
  field: string,
  role: ChatMessage['role'],
  limits: RequestLimits,
): ChatPart {
  if (part === undefined)
    throw invalid(field, '', 'text or image', `${field} holds neither text nor an image`);
  if (part.$case === 'text') return { text: part.value };
  if (role !== 'user')
    throw invalid(
      field,
      role,
      'user',
      `${field} is a picture in a ${role} message: pictures stand in user messages`,
    );
  return { picture: checkPicture(part.value, `${field}.image`, limits.maxImageBytes) };
}

/** How many tokens may be generated: what was asked for, or the default; throws when prompt and answer do not fit the context. */
export function checkContext(
  promptTokens: number,
  sampling: Sampling | undefined,
  limits: RequestLimits,
): number {
  const room = limits.maxModelLength - promptTokens;
  const context = `the context of ${limits.maxModelLength} tokens`;
  const named = (value: number, message: string): RpcError =>
    invalid('messages', String(value), String(limits.maxModelLength), message, 'PROMPT_TOO_LONG');
  if (room < 1)
    throw named(
      promptTokens,
      `the prompt has ${promptTokens} tokens, which leaves no room for an answer in ${context}`,
    );
  const asked = sampling?.maxTokens;
  if (asked !== undefined && asked > room) {
    throw named(
      promptTokens + asked,
      `the prompt's ${promptTokens} tokens and sampling.max_tokens ${asked} make ${promptTokens + asked}, more than ${context}`,
    );
  }
  const maxTokens = asked ?? Math.min(DEFAULT_MAX_TOKENS, room);
  const minTokens = sampling?.minTokens ?? 0;
  if (minTokens > maxTokens) {
    throw invalid(
      'sampling.min_tokens',
      String(minTokens),
      String(maxTokens),
      `sampling.min_tokens is ${minTokens}, more than the ${maxTokens} tokens that may be generated`,
    );
  }
  return maxTokens;
}

function checkLength(field: string, value: string, most: number): void {
  if (value.length <= most) return;
  throw invalid(
    field,
    String(value.length),
    String(most),
    `${field} has ${value.length} characters; at most ${most} are allowed`,
  );
}

function checkCount(field: string, count: number, most: number): void {
  if (count <= most) return;
  throw invalid(
    field,
    String(count),
    String(most),
    `${field} has ${count} entries; at most ${most} are allowed`,
  );
}
