// A model as a router knows it: the tokenizer and the limits, taken from a replica, and which replicas serve the same.

import { parseModelConfig } from '../runtime/model/config.ts';
import { Detokenizer } from '../runtime/tokenizer/detokenizer.ts';
import { buildPrompt, type Message, type Prompt, type PromptModel } from '../runtime/tokenizer/prompt.ts';
import { Tokenizer } from '../runtime/tokenizer/tokenizer.ts';
import type { EngineInfo } from '../gen/proto/internvl/engine/v1/engine.ts';
import type { IncrementalDetokenizer } from './output.ts';
import type { ChatMessage } from './validate.ts';

/** The files of a checkpoint that a router needs, by name. */
export type TokenizerFiles = ReadonlyMap<string, Uint8Array>;

/** A conversation as its prompt is made of it. */
export interface Chat {
  readonly messages: readonly Message[];
  readonly imageCount: number;
}

/** Pictures in the order of the messages' parts. */
export function chatOf(messages: readonly ChatMessage[]): Chat {
  let imageCount = 0;
  const texts = messages.map(({ role, parts }) => {
    let text = '';
    for (const part of parts) {
      if ('text' in part) text += part.text;
      else imageCount++;
    }
    return { role, text };
  });
  return { messages: texts, imageCount };
}

/** A model that replicas of this router serve. */
export class ServedModel {
  readonly info: EngineInfo;
  /** What its tokenizer is made of. */
  readonly files: TokenizerFiles;
  readonly promptModel: PromptModel;
  readonly #tokenizer: Tokenizer;

  /** Throws TokenizerError or ConfigError naming the file. */
  constructor(info: EngineInfo, files: TokenizerFiles) {
    this.info = info;
    this.files = files;
    this.#tokenizer = Tokenizer.fromFiles(files);
    const config = files.get('config.json');
    if (config === undefined) throw new Error('the replica sent no config.json');
    const { systemMessage } = parseModelConfig(JSON.parse(Buffer.from(config).toString('utf8')));
    this.promptModel = { imageTokens: info.imageTokens, systemMessage };
  }

  /** Throws PromptError. */
  prompt(chat: Chat): Prompt {
    return buildPrompt(this.#tokenizer, chat, this.promptModel);
  }

  detokenizer(): IncrementalDetokenizer {
    return new Detokenizer(this.#tokenizer);
  }
}

/** Why a replica cannot serve beside the others; undefined when it can. */
export function incompatibility(reference: EngineInfo, info: EngineInfo): string | undefined {
  const facts: readonly (readonly [string, string | number, string | number])[] = [
    ['model fingerprint', reference.modelFingerprint, info.modelFingerprint],
    ['tokenizer fingerprint', reference.tokenizerFingerprint, info.tokenizerFingerprint],
    ['vocabulary size', reference.vocabSize, info.vocabSize],
    ['number of image tokens', reference.imageTokens, info.imageTokens],
  ];
  for (const [what, expected, actual] of facts) {
    if (expected !== actual)
      return `serves another model than the other replicas: its ${what} is ${actual}, theirs is ${expected}`;
  }
  return undefined;
}
