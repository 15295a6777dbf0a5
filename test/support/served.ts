// A deployment as its users have it: `internvl up` in a process of its own, reached through its public port alone.

import { spawn, type ChildProcess } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { credentials, type ServiceError } from '@grpc/grpc-js';
import { FinishReason, type Sampling, type TokenLogprob } from '../../gen/proto/internvl/v1/generation.ts';
import {
  InferenceClient,
  Priority,
  ReplicaState,
  Role,
  type GenerateEvent,
  type GenerateRequest,
  type GenerateResult,
  type Image,
  type Message,
  type Model,
} from '../../gen/proto/internvl/v1/inference.ts';
import type { Endpoints } from '../../local/ready-file.ts';
import { clientChannelOptions } from '../../rpc/channel.ts';
import { parseDetails } from '../../rpc/status.ts';

const LAUNCHER = fileURLToPath(new URL('../../bin/internvl', import.meta.url));
export const FIXTURES = fileURLToPath(new URL('../fixtures/', import.meta.url));

export interface ServedOptions {
  /** Checkpoint of the fixtures. */
  readonly checkpoint: 'tiny' | 'small-tp';
  readonly replicas?: number;
  readonly tensorParallelSize?: 1 | 2 | 4 | 8;
  readonly engine?: Readonly<Record<string, unknown>>;
  readonly router?: Readonly<Record<string, unknown>>;
}

/** A served deployment; `stop` it. */
export class Served {
  readonly client: InferenceClient;
  readonly #up: ChildProcess;
  readonly #directory: string;
  readonly #output: { text: string };
  readonly #ended: Promise<number | null>;
  #endpoints: Endpoints;

  /** Starts in float32 on free ports and waits until every replica is ready. */
  static async start(options: ServedOptions): Promise<Served> {
    const directory = await mkdtemp(join(tmpdir(), 'internvl-served-'));
    const manifest = join(directory, 'deployment.yaml');
    const spec = {
      model: { source: `file://${join(FIXTURES, 'checkpoints', options.checkpoint)}` },
      replicas: options.replicas ?? 1,
      tensorParallel: { size: options.tensorParallelSize ?? 1 },
      engine: { dtype: 'float32', ...options.engine },
      ...(options.router !== undefined && { router: options.router }),
    };
    await writeFile(
      manifest,
      JSON.stringify({
        apiVersion: 'internvl.dev/v1alpha1',
        kind: 'InternVLDeployment',
        metadata: { name: 'served' },
        spec,
      }),
    );
    const readyFile = join(directory, 'ready.json');
    const up = spawn(LAUNCHER, ['up', '-f', manifest, '--grpc-port', '0', '--ready-file', readyFile], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const output = { text: '' };
    for (const stream of [up.stdout, up.stderr])
      stream.on('data', (chunk: Buffer) => (output.text += chunk.toString()));
    const ended = new Promise<number | null>((resolve) => up.once('close', resolve));
    try {
      const endpoints = await eventually('every replica to be ready', async () => {
        if (up.exitCode !== null) throw new Error(`up ended with ${up.exitCode}`);
        return await readEndpoints(directory);
      });
      return new Served(up, directory, output, ended, endpoints);
    } catch (error) {
      up.kill('SIGKILL');
      await ended;
      await rm(directory, { recursive: true, force: true });
      throw new Error(`the deployment did not start:\n${output.text}`, { cause: error });
    }
  }

  private constructor(
    up: ChildProcess,
    directory: string,
    output: { text: string },
    ended: Promise<number | null>,
    endpoints: Endpoints,
  ) {
    this.#up = up;
    this.#directory = directory;
    this.#output = output;
    this.#ended = ended;
    this.#endpoints = endpoints;
    this.client = this.connect();
  }

  get endpoints(): Endpoints {
    return this.#endpoints;
  }

  /** What `up` has printed. */
  get output(): string {
    return this.#output.text;
  }

  /** A client with a connection of its own. */
  connect(): InferenceClient {
    return new InferenceClient(this.#endpoints.grpc, credentials.createInsecure(), {
      ...clientChannelOptions({ maxMessageBytes: 256 << 20, ownConnection: true }),
    });
  }

  /** Waits until all replicas are ready again and the processes are others than before. */
  async restarted(name: string): Promise<void> {
    const before = this.pid(name);
    this.#endpoints = await eventually(`${name} to serve again`, async () => {
      const now = await readEndpoints(this.#directory);
      return now !== undefined && now.pids[name] !== before ? now : undefined;
    });
  }

  /** Process names by replica, rank 0 first. */
  get replicas(): string[][] {
    const groups = new Map<string, string[]>();
    for (const name of Object.keys(this.#endpoints.pids)
      .filter((name) => name !== 'router')
      .toSorted()) {
      const group = name.slice(0, name.lastIndexOf('-'));
      groups.set(group, [...(groups.get(group) ?? []), name]);
    }
    return [...groups.values()];
  }

  pid(name: string): number {
    const pid = this.#endpoints.pids[name];
    if (pid === undefined) throw new RangeError(`no process ${name}`);
    return pid;
  }

  kill(name: string, signal: NodeJS.Signals): void {
    process.kill(this.pid(name), signal);
  }

  /** A flag's value on the command line of a process. */
  async flag(name: string, flag: string): Promise<string> {
    const args = (await readFile(`/proc/${this.pid(name)}/cmdline`, 'utf8')).split('\0');
    const value = args[args.indexOf(flag) + 1];
    if (!args.includes(flag) || value === undefined) throw new RangeError(`${name} has no ${flag}`);
    return value;
  }

  /** One metric without labels of a process. */
  async metric(name: string, metric: string): Promise<number> {
    const address = await this.flag(name, '--metrics-listen');
    const text = await (await fetch(`http://${address}/metrics`)).text();
    const line = text.split('\n').find((candidate) => candidate.startsWith(`${metric} `));
    if (line === undefined) throw new RangeError(`${name} has no metric ${metric}:\n${text}`);
    return Number(line.slice(metric.length + 1));
  }

  async model(): Promise<Model> {
    return await new Promise((resolve, reject) => {
      this.client.getModel({ model: '' }, (error, model) =>
        error === null ? resolve(model) : reject(error),
      );
    });
  }

  /** Waits until every replica is ready and neither runs nor holds anything, by its own word and the router's. */
  async idle(): Promise<void> {
    await eventually('all replicas to be idle', async () => {
      const { replicas } = await this.model();
      if (
        !replicas.every(
          ({ state, running, waiting, kvCacheUsage }) =>
            state === ReplicaState.READY && running === 0 && waiting === 0 && kvCacheUsage === 0,
        )
      )
        return undefined;
      for (const [leader = ''] of this.replicas) {
        if ((await this.metric(leader, 'internvl_num_requests_running')) !== 0) return undefined;
        if ((await this.metric(leader, 'internvl_num_requests_waiting')) !== 0) return undefined;
        if ((await this.metric(leader, 'internvl_kv_cache_usage_ratio')) !== 0) return undefined;
      }
      return (await this.metric('router', 'internvl_router_requests_in_flight')) === 0 ? true : undefined;
    });
  }

  generate(request: GenerateRequest, options: { deadlineMs?: number; client?: InferenceClient } = {}): Call {
    const { deadlineMs, client = this.client } = options;
    return new Call(client, request, deadlineMs);
  }

  async once(request: GenerateRequest): Promise<GenerateResult> {
    return await new Promise((resolve, reject) => {
      this.client.generateOnce(request, (error, result) =>
        error === null ? resolve(result) : reject(error),
      );
    });
  }

  /** Ends it as Ctrl-C does, and makes sure that no process is left even when that fails; returns the exit code and who was left. */
  async stop(): Promise<{ readonly code: number | null; readonly left: readonly string[] }> {
    this.client.close();
    this.#up.kill('SIGTERM');
    const code = await Promise.race([this.#ended, sleep(30_000, undefined, { ref: false })]);
    const left: string[] = [];
    for (const [name, pid] of Object.entries(this.#endpoints.pids)) {
      try {
        process.kill(pid, 'SIGKILL');
        left.push(name);
      } catch {
        // It has ended, as it should.
      }
    }
    this.#up.kill('SIGKILL');
    await this.#ended;
    await rm(this.#directory, { recursive: true, force: true });
    return { code: code ?? null, left };
  }
}

/** A generation: what has come, and how it ended. */
export class Call {
  readonly ended: Promise<this>;
  text = '';
  readonly tokenIds: number[] = [];
  readonly logprobs: TokenLogprob[] = [];
  replica: string | undefined;
  promptTokenIds: readonly number[] = [];
  finished: (GenerateEvent['event'] & { $case: 'finished' })['value'] | undefined;
  error: ServiceError | undefined;
  readonly #call;
  readonly #watchers = new Set<() => void>();

  constructor(client: InferenceClient, request: GenerateRequest, deadlineMs: number | undefined) {
    this.#call = client.generate(
      request,
      deadlineMs === undefined ? {} : { deadline: Date.now() + deadlineMs },
    );
    this.#call.on('data', (event: GenerateEvent) => this.#take(event));
    this.ended = new Promise((resolve) => {
      this.#call.on('error', (error: ServiceError) => (this.error = error));
      this.#call.on('status', () => {
        this.#wake();
        resolve(this);
      });
    });
  }

  get reason(): string | undefined {
    return parseDetails(this.error).reason;
  }

  /** Resolves when so many tokens have come; rejects when the call ends before. */
  async tokens(count: number): Promise<this> {
    let over = false;
    void this.ended.then(() => (over = true));
    while (this.tokenIds.length < count) {
      if (over)
        throw new Error(`the answer ended after ${this.tokenIds.length} tokens: ${this.error?.message}`);
      await new Promise<void>((resolve) => this.#watchers.add(resolve));
    }
    return this;
  }

  cancel(): void {
    this.#call.cancel();
  }

  /** Stops reading, as a client does that does something else. */
  pause(): void {
    this.#call.pause();
  }

  resume(): void {
    this.#call.resume();
  }

  #take({ event }: GenerateEvent): void {
    if (event?.$case === 'started') {
      this.replica = event.value.replica;
      this.promptTokenIds = event.value.promptTokenIds;
    } else if (event?.$case === 'delta') {
      this.text += event.value.text;
      this.tokenIds.push(...event.value.tokenIds);
      this.logprobs.push(...event.value.logprobs);
    } else if (event?.$case === 'finished') {
      this.finished = event.value;
    }
    this.#wake();
  }

  #wake(): void {
    for (const resolve of this.#watchers) resolve();
    this.#watchers.clear();
  }
}

export interface Question {
  readonly text?: string;
  readonly system?: string;
  /** Turns before the question: what was asked and answered. */
  readonly history?: readonly (readonly [string, string])[];
  /** Files, before the first user text. */
  readonly pictures?: readonly Uint8Array[];
  /** What `messages` there are instead of all the above. */
  readonly messages?: readonly Message[];
  readonly sampling?: Partial<Sampling>;
  readonly logprobs?: number;
  readonly model?: string;
  readonly priority?: Priority;
}

/** A request; greedy where it does not say otherwise, with the prompt's ids in the answer. */
export function request(question: Question): GenerateRequest {
  return {
    requestId: '',
    model: question.model ?? '',
    messages: [...(question.messages ?? messagesOf(question))],
    sampling: { temperature: 0, stop: [], stopTokenIds: [], ignoreEos: false, ...question.sampling },
    output: { logprobs: question.logprobs, promptTokenIds: true },
    priority: question.priority ?? Priority.UNSPECIFIED,
    affinityKey: '',
    cacheSalt: '',
  };
}

function messagesOf({ text = '', system, history = [], pictures = [] }: Question): Message[] {
  const turns = [...history.flat(), text].map((content, index): Message => ({
    role: index % 2 === 0 ? Role.USER : Role.ASSISTANT,
    parts: [
      ...(index === 0
        ? pictures.map((data) => picturePart({ $case: 'data', value: Buffer.from(data) }))
        : []),
      { part: { $case: 'text', value: content } },
    ],
  }));
  return system === undefined
    ? turns
    : [{ role: Role.SYSTEM, parts: [{ part: { $case: 'text', value: system } }] }, ...turns];
}

export function picturePart(source: NonNullable<Image['source']>): Message['parts'][number] {
  return { part: { $case: 'image', value: { source } } };
}

export const REASONS: Readonly<Record<string, FinishReason>> = {
  length: FinishReason.LENGTH,
  eos: FinishReason.STOP,
};

/** Waits for `check` to give something, asking again and again; throws with `what` after a minute. */
export async function eventually<Value>(
  what: string,
  check: () => Promise<Value | undefined> | Value | undefined,
): Promise<Value> {
  const end = performance.now() + 60_000;
  for (;;) {
    const value = await check();
    if (value !== undefined) return value;
    if (performance.now() > end) throw new Error(`waited a minute for ${what}`);
    await sleep(25);
  }
}

async function readEndpoints(directory: string): Promise<Endpoints | undefined> {
  const text = await readFile(join(directory, 'ready.json'), 'utf8').catch(() => undefined);
  return text === undefined ? undefined : (JSON.parse(text) as Endpoints);
}
