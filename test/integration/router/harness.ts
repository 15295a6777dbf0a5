// A router over real sockets, with fake replicas behind it and a real client in front.

import { credentials } from '@grpc/grpc-js';
import type { ClientReadableStream, ServiceError } from '@grpc/grpc-js';
import { InferenceClient, Priority, ReplicaState, Role } from '../../../gen/proto/internvl/v1/inference.ts';
import type {
  GenerateEvent,
  GenerateRequest,
  GenerateResult,
  Image,
  Message,
} from '../../../gen/proto/internvl/v1/inference.ts';
import type { Sampling } from '../../../gen/proto/internvl/v1/generation.ts';
import { clientChannelOptions } from '../../../rpc/channel.ts';
import { createLogger } from '../../../rpc/log.ts';
import { parseDetails } from '../../../rpc/status.ts';
import { parseConfig } from '../../../router/config.ts';
import { Router, type RouterDependencies } from '../../../router/router.ts';
import { FakeReplica, type FakeReplicaOptions } from '../../support/fake-replica.ts';

export interface Setup {
  readonly replicas: readonly FakeReplicaOptions[];
  readonly flags?: readonly string[];
  readonly dependencies?: Partial<RouterDependencies>;
  /** Replicas that must be ready before the test begins; default all. */
  readonly ready?: number;
}

/** Everything a test needs; `close` it. */
export class Harness {
  readonly router: Router;
  readonly replicas: readonly FakeReplica[];
  readonly client: InferenceClient;
  readonly address: string;

  static async start(setup: Setup): Promise<Harness> {
    const replicas = await Promise.all(setup.replicas.map((options) => FakeReplica.start(options)));
    const config = parseConfig([
      '--listen',
      '127.0.0.1:0',
      ...replicas.flatMap((replica, index) => ['--replica', `r${index}=${replica.address}`]),
      ...(setup.flags ?? []),
    ]);
    const router = new Router(config, {
      logger: createLogger({ level: 'error', format: 'json' }),
      ...setup.dependencies,
    });
    const address = await router.start();
    const harness = new Harness(router, replicas, address);
    await harness.ready(setup.ready ?? replicas.length);
    return harness;
  }

  private constructor(router: Router, replicas: readonly FakeReplica[], address: string) {
    this.router = router;
    this.replicas = replicas;
    this.address = address;
    this.client = new InferenceClient(address, credentials.createInsecure(), {
      ...clientChannelOptions({ maxMessageBytes: 128 << 20, ownConnection: true }),
    });
  }

  async ready(count: number): Promise<void> {
    await until(
      () => this.router.replicas.filter(({ state }) => state === ReplicaState.READY).length === count,
    );
  }

  /** Forgets the probes' submissions, so that a test counts only its own. */
  forgetProbes(): void {
    for (const replica of this.replicas) replica.submits.length = 0;
  }

  async close(): Promise<void> {
    this.client.close();
    await this.router.stop();
    await Promise.all(this.replicas.map((replica) => replica.kill()));
  }

  generate(request: GenerateRequest, deadlineMs?: number): Stream {
    const options = deadlineMs === undefined ? {} : { deadline: Date.now() + deadlineMs };
    return new Stream(this.client.generate(request, options));
  }

  once(request: GenerateRequest): Promise<GenerateResult> {
    return new Promise((resolve, reject) => {
      this.client.generateOnce(request, (error, result) =>
        error === null ? resolve(result) : reject(error),
      );
    });
  }
}

/** A call's events as they come, and how it ended. */
export class Stream {
  readonly call: ClientReadableStream<GenerateEvent>;
  readonly events: NonNullable<GenerateEvent['event']>[] = [];
  error: ServiceError | undefined;
  ended = false;

  constructor(call: ClientReadableStream<GenerateEvent>) {
    this.call = call;
    call.on('data', ({ event }: GenerateEvent) => {
      if (event !== undefined) this.events.push(event);
    });
    call.on('error', (error: ServiceError) => {
      this.error = error;
      this.ended = true;
    });
    call.on('end', () => {
      this.ended = true;
    });
  }

  get text(): string {
    return this.events.map((event) => (event.$case === 'delta' ? event.value.text : '')).join('');
  }

  get tokenIds(): number[] {
    return this.events.flatMap((event) => (event.$case === 'delta' ? event.value.tokenIds : []));
  }

  get started() {
    const event = this.events.find(({ $case }) => $case === 'started');
    return event?.$case === 'started' ? event.value : undefined;
  }

  get finished() {
    const event = this.events.at(-1);
    return event?.$case === 'finished' ? event.value : undefined;
  }

  get reason(): string | undefined {
    return parseDetails(this.error).reason;
  }

  async end(): Promise<this> {
    await until(() => this.ended);
    return this;
  }

  /** Resolves when tokens have come. */
  async tokens(count = 1): Promise<this> {
    await until(() => this.tokenIds.length >= count || this.ended);
    return this;
  }
}

/** Waits for a condition; fails after ten seconds, naming it. */
export async function until(condition: () => boolean): Promise<void> {
  const deadline = Date.now() + 10_000;
  while (!condition()) {
    if (Date.now() > deadline) throw new Error(`never became true: ${condition.toString()}`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

export interface Ask {
  readonly text?: string;
  readonly images?: readonly NonNullable<Image['source']>[];
  readonly messages?: readonly Message[];
  readonly sampling?: Partial<Sampling>;
  readonly affinityKey?: string;
  readonly priority?: Priority;
  readonly logprobs?: number;
  readonly model?: string;
}

/** A request with one user message. */
export function ask({
  text = 'What is this?',
  images = [],
  messages,
  sampling,
  affinityKey = '',
  priority = Priority.UNSPECIFIED,
  logprobs,
  model = '',
}: Ask = {}): GenerateRequest {
  return {
    requestId: '',
    model,
    messages: messages === undefined ? [user(text, images)] : [...messages],
    sampling:
      sampling === undefined ? undefined : { stop: [], stopTokenIds: [], ignoreEos: false, ...sampling },
    output: logprobs === undefined ? undefined : { logprobs, promptTokenIds: true },
    priority,
    affinityKey,
    cacheSalt: '',
  };
}

export function user(text: string, images: readonly NonNullable<Image['source']>[] = []): Message {
  return {
    role: Role.USER,
    parts: [
      ...images.map((source) => ({ part: { $case: 'image' as const, value: { source } } })),
      { part: { $case: 'text' as const, value: text } },
    ],
  };
}
