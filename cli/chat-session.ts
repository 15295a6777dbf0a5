// What a chat remembers, and what its lines mean. Pure.
import type { Answer } from './answer.ts';
import type { Turn } from './conversation.ts';

/** One line of a chat. */
export type ChatInput =
  | { readonly kind: 'question'; readonly text: string }
  | { readonly kind: 'image'; readonly path: string }
  | { readonly kind: 'reset' | 'stats' | 'help' | 'quit' | 'nothing' }
  | { readonly kind: 'mistake'; readonly problem: string };

export const CHAT_HELP = `/image FILE  talk about this picture, in place of the one before
/reset       forget the conversation; the picture stays
/stats       tokens and times of the last answer and of all
/help        this list
/quit        leave`;

const PLAIN_COMMANDS = ['reset', 'stats', 'help', 'quit'] as const;

/** Reads a line: a command, or a question. Two slashes ask a question that begins with one. */
export function parseChatInput(line: string): ChatInput {
  const text = line.trim();
  if (text === '') return { kind: 'nothing' };
  if (!text.startsWith('/')) return { kind: 'question', text };
  if (text.startsWith('//')) return { kind: 'question', text: text.slice(1) };
  const [, word = '', rest = ''] = /^\/(\S*)\s*(.*)$/s.exec(text) ?? [];
  if (word === 'image')
    return rest === ''
      ? { kind: 'mistake', problem: '/image needs a file: /image FILE' }
      : { kind: 'image', path: rest };
  const plain = PLAIN_COMMANDS.find((command) => command === word);
  if (plain === undefined)
    return { kind: 'mistake', problem: `there is no command /${word}; /help lists them` };
  return rest === '' ? { kind: plain } : { kind: 'mistake', problem: `/${word} takes nothing after it` };
}

/** The conversation so far, its picture and its figures. */
export class ChatSession {
  readonly #system: string | undefined;
  #turns: Turn[] = [];
  #picture: Uint8Array | undefined;
  #last: Answer | undefined;
  #answers = 0;
  #completionTokens = 0;
  #totalMs = 0;

  constructor(system: string | undefined) {
    this.#system = system;
  }

  /** The turns to send for a question. */
  ask(question: string): Turn[] {
    const system: Turn[] = this.#system === undefined ? [] : [{ role: 'system', content: this.#system }];
    return [...system, ...this.#turns, { role: 'user', content: question }];
  }

  /** Keeps a question and its answer, even one that was cut; an answer without text leaves no trace. */
  keep(question: string, answer: string): void {
    if (answer !== '')
      this.#turns.push({ role: 'user', content: question }, { role: 'assistant', content: answer });
  }

  count(answer: Answer): void {
    this.#last = answer;
    this.#answers++;
    this.#completionTokens += answer.usage.completionTokens;
    this.#totalMs += answer.timings.totalMs;
  }

  reset(): void {
    this.#turns = [];
  }

  set picture(bytes: Uint8Array) {
    this.#picture = bytes;
  }

  get pictures(): readonly Uint8Array[] {
    return this.#picture === undefined ? [] : [this.#picture];
  }

  /** The figures as lines of text. */
  stats(): string {
    if (this.#last === undefined) return 'no answer yet';
    const { usage, timings, finishReason } = this.#last;
    return [
      `last: ${usage.promptTokens} prompt tokens (${usage.imageTokens} of pictures, ${usage.cachedTokens} cached), ` +
        `${usage.completionTokens} answered, ended by ${finishReason}`,
      `      first token after ${seconds(timings.timeToFirstTokenMs)}, all after ${seconds(timings.totalMs)}, ` +
        rate(usage.completionTokens, timings.totalMs - timings.timeToFirstTokenMs),
      `all:  ${this.#answers} answer${this.#answers === 1 ? '' : 's'}, ${this.#completionTokens} tokens in ${seconds(this.#totalMs)}`,
    ].join('\n');
  }
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(2)} s`;
}

/** Tokens after the first, by the time they took. */
function rate(tokens: number, ms: number): string {
  return tokens > 1 && ms > 0
    ? `${((1000 * (tokens - 1)) / ms).toFixed(1)} tokens/s`
    : 'too short for a rate';
}
