// An engine under measurement: a process that reads one command a line and answers each with one line. Only one of them works at a time.
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createInterface, type Interface } from 'node:readline';

/** Passes of one command go on for no longer than this: on a machine where others are at work, one can take seconds. */
export const MAX_MS = 4000;

/** A forward pass, timed `times` times, or fewer when time is up. */
export type Pass = (
  | { readonly op: 'decode'; readonly sequences: number; readonly context: number }
  | { readonly op: 'prefill'; readonly tokens: number }
  | { readonly op: 'image' }
  /** Of ours: the matrix products of the other passes alone. */
  | { readonly op: 'prefillProducts'; readonly tokens: number }
  | { readonly op: 'imageProducts' }
) & { readonly times: number };

/** With `warmUp`, it runs once more before. */
export type TimedPass = Pass & { readonly warmUp: boolean };

export type Command =
  | TimedPass
  | {
      readonly op: 'load';
      /** A checkpoint's config.json. */
      readonly shape: unknown;
      readonly dtype: string;
      readonly quantization: 'none' | 'int8';
      readonly threads: number;
      /** 'cpu' when absent. */
      readonly device?: 'cpu' | 'cuda';
      /** Of PyTorch: through torch.compile. */
      readonly compiled?: boolean;
      /** The most sequences of a decode step, 32 when absent. */
      readonly sequences?: number;
    }
  /** How much a step of decoding reads. */
  | { readonly op: 'bytes'; readonly sequences: number; readonly context: number };

export interface Reply {
  readonly seconds?: readonly number[];
  readonly bytes?: number;
  readonly version?: string;
  readonly error?: string;
}

export class EngineProcess {
  readonly name: string;
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterator<string>;
  readonly #reader: Interface;

  constructor(name: string, command: readonly [string, ...string[]], env: NodeJS.ProcessEnv = {}) {
    this.name = name;
    const [program, ...args] = command;
    const child = spawn(program, args, {
      stdio: ['pipe', 'pipe', 'inherit'],
      env: { ...process.env, ...env },
    });
    this.#child = child;
    // A process that ended closes its pipes; the next read tells.
    child.on('error', () => undefined);
    child.stdin.on('error', () => undefined);
    this.#reader = createInterface({ input: child.stdout });
    this.#lines = this.#reader[Symbol.asyncIterator]();
  }

  /** Throws when the engine cannot do it. */
  async call(command: Command): Promise<Reply> {
    this.#child.stdin?.write(`${JSON.stringify(command)}\n`);
    const { value, done } = await this.#lines.next();
    if (done === true) throw new Error(`${this.name} ended during '${command.op}'`);
    const reply = JSON.parse(value) as Reply;
    if (reply.error !== undefined) throw new Error(`${this.name}, ${command.op}: ${reply.error}`);
    return reply;
  }

  async stop(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null || this.#child.pid === undefined)
      return;
    this.#child.kill('SIGKILL');
    await once(this.#child, 'exit');
  }
}
