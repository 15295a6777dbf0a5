// Conversations as the command line has them, and as the wire has them. Pure.
import {
  Priority,
  Role,
  type GenerateRequest,
  type Message,
  type Part,
} from '../gen/proto/internvl/v1/inference.ts';
import type { Sampling } from '../gen/proto/internvl/v1/generation.ts';
import { usageError } from './cli-error.ts';

export interface Turn {
  readonly role: 'system' | 'user' | 'assistant';
  readonly content: string;
}

const ROLES = { system: Role.SYSTEM, user: Role.USER, assistant: Role.ASSISTANT } as const;

/** Reads [{"role", "content"}]; `source` is what messages call it. */
export function parseTurns(text: string, source: string): Turn[] {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw usageError(`${source} is not JSON: ${(error as Error).message}`);
  }
  if (!Array.isArray(value)) throw usageError(`${source} must hold a list of {"role", "content"}`);
  return value.map((turn: unknown, index) => {
    const { role, content, ...others } = (typeof turn === 'object' && turn !== null ? turn : {}) as Record<
      string,
      unknown
    >;
    const where = `${source}: message ${index}`;
    if (role !== 'system' && role !== 'user' && role !== 'assistant')
      throw usageError(`${where}: role is ${JSON.stringify(role)}; it must be system, user or assistant`);
    if (typeof content !== 'string') throw usageError(`${where}: content must be a string`);
    const [other] = Object.keys(others);
    if (other !== undefined)
      throw usageError(`${where}: unknown field ${other}; role and content are allowed`);
    return { role, content };
  });
}

/** Messages of the wire: pictures stand before the first user text, as the model was trained. */
export function toMessages(turns: readonly Turn[], pictures: readonly Uint8Array[]): Message[] {
  const firstUser = turns.findIndex(({ role }) => role === 'user');
  return turns.map(({ role, content }, index) => {
    const text: Part = { part: { $case: 'text', value: content } };
    const images = pictures.map((data): Part => ({
      part: { $case: 'image', value: { source: { $case: 'data', value: Buffer.from(data) } } },
    }));
    return { role: ROLES[role], parts: index === firstUser ? [...images, text] : [text] };
  });
}

/** Flags that choose how tokens are sampled; absent ones are the model's default. */
export interface SamplingFlags {
  maxTokens?: number;
  minTokens?: number;
  temperature?: number;
  topP?: number;
  topK?: number;
  repetitionPenalty?: number;
  seed?: bigint;
  stop?: string[];
  stopTokenId?: number[];
  ignoreEos?: true;
}

export function toSampling(flags: SamplingFlags): Sampling {
  return {
    temperature: flags.temperature,
    topP: flags.topP,
    topK: flags.topK,
    repetitionPenalty: flags.repetitionPenalty,
    maxTokens: flags.maxTokens,
    minTokens: flags.minTokens,
    seed: flags.seed,
    stop: flags.stop ?? [],
    stopTokenIds: flags.stopTokenId ?? [],
    ignoreEos: flags.ignoreEos === true,
  };
}

export function toRequest(
  messages: Message[],
  sampling: Sampling,
  output: { readonly logprobs: number | undefined; readonly promptTokenIds: boolean },
): GenerateRequest {
  return {
    requestId: '',
    model: '',
    messages,
    sampling,
    output: { logprobs: output.logprobs, promptTokenIds: output.promptTokenIds },
    priority: Priority.UNSPECIFIED,
    affinityKey: '',
    cacheSalt: '',
  };
}
