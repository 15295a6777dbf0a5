// The prompt template "Hermes-2" that the model was trained with, written as token ids. Control tokens are put in as ids, text is encoded as
// plain text: nothing that a message says can end a turn or stand for a picture.

import type { Tokenizer } from './tokenizer.ts';

export interface Message {
  readonly role: 'system' | 'user' | 'assistant';
  readonly text: string;
}

/** What the template needs of the model (see ModelConfig). */
export interface PromptModel {
  readonly imageTokens: number;
  readonly systemMessage: string;
  /** Absent means Hermes-2, the one that is supported. */
  readonly template?: string;
}

export interface Prompt {
  readonly tokenIds: number[];
  /** The run of picture tokens of each picture, in the order of the request. */
  readonly images: { readonly offset: number; readonly length: number }[];
}

export type PromptErrorCode = 'no_messages' | 'wrong_role_order' | 'unsupported_template';

/** The messages do not make a prompt. */
export class PromptError extends Error {
  override readonly name = 'PromptError';
  readonly code: PromptErrorCode;

  constructor(code: PromptErrorCode, message: string) {
    super(message);
    this.code = code;
  }
}

const TEMPLATE = 'Hermes-2';
const PLACEHOLDER = '<image>';

/**
 * The prompt of a conversation, open for the assistant's answer.
 *
 * Pictures: the literal `<image>` in user texts is a place for a picture, filled in order; places beyond the number of pictures stay text. When
 * there are fewer places than pictures, the first pictures stand in front of the first user text, a line each, and the last ones take the places:
 * pictures keep their order. Without a system message the model's own is used; an empty user or assistant message is its bare role, as published.
 */
export function buildPrompt(
  tokenizer: Tokenizer,
  request: { readonly messages: readonly Message[]; readonly imageCount: number },
  model: PromptModel,
): Prompt {
  const { messages, imageCount } = request;
  const first = messages[0];
  const turns = first?.role === 'system' ? messages.slice(1) : messages;
  checkRoles(turns, messages.length - turns.length);
  if (model.template !== undefined && model.template !== TEMPLATE)
    throw new PromptError(
      'unsupported_template',
      `the model was trained with the prompt template ${JSON.stringify(model.template)}; ${TEMPLATE} alone is supported`,
    );

  const writer = new PromptWriter(tokenizer, model.imageTokens);
  writer.system(first?.role === 'system' ? first.text : model.systemMessage);
  const places = turns.reduce((sum, turn) => sum + (turn.role === 'user' ? countPlaces(turn.text) : 0), 0);
  let inFront = Math.max(0, imageCount - places);
  let inPlaces = imageCount - inFront;
  for (const { role, text } of turns) {
    if (role !== 'user') {
      writer.turn('assistant', [text]);
      continue;
    }
    // n + 1 texts with a picture between each two.
    const texts = splitAtPlaces(text, inPlaces);
    inPlaces -= texts.length - 1;
    writer.turn('user', texts, inFront);
    inFront = 0;
  }
  return writer.open();
}

function checkRoles(turns: readonly Message[], offset: number): void {
  if (turns.length === 0) throw new PromptError('no_messages', 'the prompt has no user message');
  turns.forEach(({ role }, index) => {
    const expected = index % 2 === 0 ? 'user' : 'assistant';
    if (role === expected) return;
    const why =
      role === 'system'
        ? 'a system message can only be the first'
        : 'user and assistant messages alternate, user first';
    throw new PromptError(
      'wrong_role_order',
      `message ${offset + index + 1} has role ${role}, expected ${expected}: ${why}`,
    );
  });
  if (turns.length % 2 === 0)
    throw new PromptError(
      'wrong_role_order',
      `the last message (${offset + turns.length}) has role assistant, expected user`,
    );
}

function countPlaces(text: string): number {
  return text.split(PLACEHOLDER).length - 1;
}

/** The text cut at its first `limit` places. */
function splitAtPlaces(text: string, limit: number): string[] {
  const parts: string[] = [];
  let start = 0;
  while (parts.length < limit) {
    const at = text.indexOf(PLACEHOLDER, start);
    if (at < 0) break;
    parts.push(text.slice(start, at));
    start = at + PLACEHOLDER.length;
  }
  parts.push(text.slice(start));
  return parts;
}

/** Collects ids. Text between two control tokens is encoded in one go, as the published tokenizer does: pieces may span the template's text and the message's. */
class PromptWriter {
  readonly #tokenizer: Tokenizer;
  readonly #imageTokens: number;
  readonly #ids: number[] = [];
  readonly #images: { offset: number; length: number }[] = [];
  readonly #start: number;
  readonly #end: number;

  constructor(tokenizer: Tokenizer, imageTokens: number) {
    this.#tokenizer = tokenizer;
    this.#imageTokens = imageTokens;
    this.#start = tokenizer.controlTokenId('<|im_start|>');
    this.#end = tokenizer.controlTokenId('<|im_end|>');
    const { addBosToken, bosTokenId } = tokenizer.vocabulary.added;
    if (addBosToken && bosTokenId !== undefined) this.#ids.push(bosTokenId);
  }

  system(text: string): void {
    this.#ids.push(this.#start);
    this.#text(`system\n${text}`);
    this.#ids.push(this.#end);
  }

  /** A closed turn: its texts with a picture between each two, after `inFront` pictures with a line end each. */
  turn(role: 'user' | 'assistant', texts: readonly string[], inFront = 0): void {
    this.#ids.push(this.#start);
    let before = `${role}\n`;
    for (let i = 0; i < inFront; i++) {
      this.#text(before);
      this.#image();
      before = '\n';
    }
    texts.forEach((text, index) => {
      if (index > 0) this.#image();
      this.#text(before + text);
      before = '';
    });
    const isEmpty = inFront === 0 && texts.length === 1 && texts[0] === '';
    if (!isEmpty) this.#ids.push(this.#end);
  }

  /** The prompt with the assistant's turn begun. */
  open(): Prompt {
    this.#ids.push(this.#start);
    this.#text('assistant\n');
    return { tokenIds: this.#ids, images: this.#images };
  }

  #text(text: string): void {
    for (const id of this.#tokenizer.encode(text)) this.#ids.push(id);
  }

  #image(): void {
    this.#ids.push(this.#tokenizer.controlTokenId('<img>'));
    this.#images.push({ offset: this.#ids.length, length: this.#imageTokens });
    const context = this.#tokenizer.controlTokenId('<IMG_CONTEXT>');
    for (let i = 0; i < this.#imageTokens; i++) this.#ids.push(context);
    this.#ids.push(this.#tokenizer.controlTokenId('</img>'));
  }
}
