// What is served: the tokenizer and the limits, taken from the first replica, and which replicas serve the same.

import { parseModelConfig } from '../runtime/model/config.ts';
import { Detokenizer } from '../runtime/tokenizer/detokenizer.ts';
import { buildPrompt, type Prompt, type PromptModel } from '../runtime/tokenizer/prompt.ts';
import { Tokenizer } from '../runtime/tokenizer/tokenizer.ts';
import type { EngineInfo } from '../gen/proto/internvl/engine/v1/engine.ts';
import type { IncrementalDetokenizer } from './output.ts';
import type { ChatMessage } from './validate.ts';

/** The files of a checkpoint that a router needs, by name. */
export type TokenizerFiles = ReadonlyMap<string, Uint8Array>;

/** The model that all replicas of this router serve. */
export class ServedModel {
  readonly info: EngineInfo;
  readonly #tokenizer: Tokenizer;
  readonly #promptModel: PromptModel;

  /** Throws TokenizerError or ConfigError naming the file. */
  constructor(info: EngineInfo, files: TokenizerFiles) {
    this.info = info;
    this.#tokenizer = Tokenizer.fromFiles(files);
    const config = files.get('config.json');
    if (config === undefined) throw new Error('the replica sent no config.json');
    const { systemMessage } = parseModelConfig(JSON.parse(Buffer.from(config).toString('utf8')));
    this.#promptModel = { imageTokens: info.imageTokens, systemMessage };
  }

  /** The prompt of checked messages; pictures in the order of the messages' parts. */
  prompt(messages: readonly ChatMessage[]): Prompt {
    let imageCount = 0;
    const texts = messages.map(({ role, parts }) => {
      let text = '';
      for (const part of parts) {
        if ('text' in part) text += part.text;
        else imageCount++;
      }
      return { role, text };
    });
    return buildPrompt(this.#tokenizer, { messages: texts, imageCount }, this.#promptModel);
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

/** How long the model of replicas that all went away stays the one that is served. */
const MODEL_HOLD_MS = 30_000;

/** Decides which model is served and which replicas belong to it. */
export class ModelRegistry {
  readonly #now: () => number;
  readonly #onAdopted: (model: ServedModel) => void;
  #current: ServedModel | undefined;
  #loading: Promise<unknown> | undefined;
  /** Connected replicas that serve the current model. */
  readonly #holders = new Set<string>();
  #orphanedAt: number | undefined;

  /** `onAdopted` is told of each model that becomes the served one. */
  constructor(now: () => number, onAdopted: (model: ServedModel) => void) {
    this.#now = now;
    this.#onAdopted = onAdopted;
  }

  get current(): ServedModel | undefined {
    return this.#current;
  }

  /** The model when the replica serves it, otherwise why it cannot be used; rejects when its files cannot be fetched or read. */
  async admit(
    replica: string,
    info: EngineInfo,
    fetchFiles: () => Promise<TokenizerFiles>,
  ): Promise<ServedModel | string> {
    // The first one decides; others wait for it rather than fetch the same files.
    while (this.#loading !== undefined) await this.#loading.catch(() => undefined);
    if (this.#current === undefined || this.#replaceable(info)) {
      const loading = fetchFiles().then((files) => new ServedModel(info, files));
      this.#loading = loading;
      try {
        this.#current = await loading;
      } finally {
        this.#loading = undefined;
      }
      this.#onAdopted(this.#current);
    }
    const why = incompatibility(this.#current.info, info);
    if (why !== undefined) return why;
    this.#holders.add(replica);
    this.#orphanedAt = undefined;
    return this.#current;
  }

  /** The replica is no longer connected. */
  release(replica: string): void {
    if (this.#holders.delete(replica) && this.#holders.size === 0) this.#orphanedAt = this.#now();
  }

  /** True when no replica has served the current model for so long that another model may take its place. */
  get orphaned(): boolean {
    return this.#orphanedAt !== undefined && this.#now() - this.#orphanedAt > MODEL_HOLD_MS;
  }

  #replaceable(info: EngineInfo): boolean {
    return (
      this.orphaned && this.#current !== undefined && incompatibility(this.#current.info, info) !== undefined
    );
  }
}
