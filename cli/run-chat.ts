import { createInterface, type Interface } from 'node:readline';
import type { InferenceClient } from '../gen/proto/internvl/v1/inference.ts';
import { ask, Cancelled } from './answer.ts';
import type { ChatFlags } from './chat.ts';
import { CHAT_HELP, ChatSession, parseChatInput } from './chat-session.ts';
import { CliError } from './cli-error.ts';
import { connect, getModel } from './client.ts';
import { toMessages, toRequest, toSampling } from './conversation.ts';
import { EXIT } from './exit-codes.ts';
import { readInputFile } from './read-input.ts';
import { formatError } from './report-error.ts';
import { isTerminal, printable, styler } from './terminal.ts';

/** Reasons with which a server refuses a prompt that does not fit. */
const TOO_LONG: ReadonlySet<string> = new Set([
  'PROMPT_TOO_LONG',
  'CONTEXT_LENGTH_EXCEEDED',
  'KV_CACHE_EXCEEDED',
]);

/** Runs `internvl chat` until its input ends; returns the exit code. */
export async function runChat(flags: ChatFlags): Promise<number> {
  const session = new ChatSession(flags.system);
  if (flags.image !== undefined) session.picture = await readInputFile(flags.image, '--image');
  const client = await connect(flags.server);
  try {
    return await new Chat(client, session, flags).run();
  } finally {
    client.close();
  }
}

class Chat {
  readonly #client: InferenceClient;
  readonly #session: ChatSession;
  readonly #flags: ChatFlags;
  readonly #interactive = process.stdin.isTTY && isTerminal(process.stdout);
  readonly #style = styler(process.stdout);
  #answering: AbortController | undefined;
  #leaving = false;
  #failures = 0;

  constructor(client: InferenceClient, session: ChatSession, flags: ChatFlags) {
    this.#client = client;
    this.#session = session;
    this.#flags = flags;
  }

  async run(): Promise<number> {
    if (this.#interactive) await this.#greet();
    const lines = createInterface({
      input: process.stdin,
      ...(this.#interactive && { output: process.stdout, prompt: this.#style('cyan', '> ') }),
      crlfDelay: Infinity,
    });
    const interrupt = () => this.#interrupt(lines);
    // On a terminal readline has the key; piped, the signal itself comes.
    lines.on('SIGINT', interrupt);
    process.on('SIGINT', interrupt);
    if (this.#interactive) lines.prompt();
    // Lines that come while an answer streams are kept by the iterator and asked in turn.
    for await (const line of lines) {
      if (!(await this.#take(line))) break;
      if (this.#interactive && !this.#leaving) lines.prompt();
    }
    lines.close();
    process.off('SIGINT', interrupt);
    if (this.#leaving) return EXIT.interrupted;
    // A script must learn of it; a person has seen it.
    return this.#failures > 0 && !this.#interactive ? EXIT.failed : EXIT.ok;
  }

  async #greet(): Promise<void> {
    const model = await getModel(this.#client);
    const picture = this.#flags.image === undefined ? '' : `, about ${this.#flags.image}`;
    this.#say(`${model.name} at ${this.#flags.server}${picture}. /help lists the commands, /quit leaves.`);
  }

  /** Does what a line says; false ends the chat. */
  async #take(line: string): Promise<boolean> {
    const input = parseChatInput(line);
    if (input.kind === 'quit') return false;
    switch (input.kind) {
      case 'question':
        await this.#answer(input.text);
        break;
      case 'image':
        await this.#load(input.path);
        break;
      case 'reset':
        this.#session.reset();
        this.#say('The conversation starts anew.');
        break;
      case 'stats':
        this.#say(this.#session.stats());
        break;
      case 'help':
        this.#say(CHAT_HELP);
        break;
      case 'mistake':
        this.#failures++;
        process.stderr.write(`${input.problem}\n`);
        break;
      case 'nothing':
        break;
    }
    return !this.#leaving;
  }

  async #load(path: string): Promise<void> {
    try {
      this.#session.picture = await readInputFile(path, '/image');
      this.#say(`Talking about ${path}.`);
    } catch (error) {
      this.#tell(error);
    }
  }

  async #answer(question: string): Promise<void> {
    const messages = toMessages(this.#session.ask(question), this.#session.pictures);
    const request = toRequest(messages, toSampling(this.#flags), {
      logprobs: undefined,
      promptTokenIds: false,
    });
    this.#answering = new AbortController();
    try {
      const answer = await ask(this.#client, request, {
        signal: this.#answering.signal,
        onText: (text) => process.stdout.write(this.#interactive ? printable(text) : text),
      });
      process.stdout.write('\n');
      this.#session.keep(question, answer.text);
      this.#session.count(answer);
      if (answer.finishReason === 'length')
        this.#say(
          `[cut after ${answer.usage.completionTokens} tokens, by --max-tokens or the end of the context]`,
        );
      if (answer.finishReason === 'abort') this.#say('[the server ended this answer early]');
    } catch (error) {
      if (error instanceof Cancelled) {
        this.#session.keep(question, error.text);
        process.stdout.write('\n');
        this.#say(
          error.text === '' ? '[cancelled; the question is forgotten]' : '[cancelled; what was said is kept]',
        );
      } else {
        this.#tell(error);
      }
    } finally {
      this.#answering = undefined;
    }
  }

  #tell(error: unknown): void {
    if (!(error instanceof CliError)) throw error;
    this.#failures++;
    process.stderr.write(formatError('chat', error));
    if (TOO_LONG.has(error.reason))
      process.stderr.write(
        'The conversation no longer fits the context; nothing of it was dropped. /reset starts anew.\n',
      );
  }

  /** During an answer the first cancels it; without one, or again, it leaves. */
  #interrupt(lines: Interface): void {
    if (this.#answering !== undefined && !this.#answering.signal.aborted) {
      this.#answering.abort();
      return;
    }
    this.#leaving = true;
    lines.close();
  }

  /** The chat's own words: dimmed on a terminal, and beside the answers when piped. */
  #say(text: string): void {
    if (this.#interactive) process.stdout.write(`${this.#style('dim', text)}\n`);
    else process.stderr.write(`${text}\n`);
  }
}
