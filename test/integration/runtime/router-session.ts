// The router's end of an Engine.Session, for tests.

import { createHash } from 'node:crypto';
import { credentials } from '@grpc/grpc-js';
import type { ClientDuplexStream, ServiceError } from '@grpc/grpc-js';
import { EngineClient } from '../../../gen/proto/internvl/engine/v1/engine.ts';
import type {
  Done,
  EngineMessage,
  Load,
  PutImageResponse,
  Rejected,
  RouterMessage,
  Submit,
  Welcome,
} from '../../../gen/proto/internvl/engine/v1/engine.ts';
import type { Sampling } from '../../../gen/proto/internvl/v1/generation.ts';

export const GREEDY: Sampling = {
  temperature: 0,
  topP: undefined,
  topK: undefined,
  repetitionPenalty: undefined,
  maxTokens: 32,
  minTokens: undefined,
  seed: undefined,
  stop: [],
  stopTokenIds: [],
  ignoreEos: false,
};

/** A submission with everything that a test does not care about filled in. */
export function submit(fields: Pick<Submit, 'handle' | 'tokenIds'> & Partial<Submit>): Submit {
  return {
    seq: fields.handle,
    images: [],
    sampling: GREEDY,
    logprobs: undefined,
    priority: 0,
    deadlineMs: 0,
    cacheSalt: '',
    ...fields,
  };
}

/** Everything a session has said, with waiting for conditions on it. */
export class RouterSession {
  readonly messages: EngineMessage['message'][] = [];
  readonly tokens = new Map<number, number[]>();
  /** Of each handle's tokens, when it asked for them. */
  readonly logprobs = new Map<number, number[]>();
  readonly done = new Map<number, Done>();
  readonly rejected = new Map<number, Rejected>();
  readonly needed: string[] = [];
  welcome: Welcome | undefined;
  load: Load | undefined;
  error: ServiceError | undefined;
  ended = false;
  readonly #stream: ClientDuplexStream<RouterMessage, EngineMessage>;
  readonly #watchers = new Set<() => void>();

  constructor(client: EngineClient) {
    this.#stream = client.session();
    this.#stream.on('data', ({ message }: EngineMessage) => {
      this.messages.push(message);
      this.#note(message);
      this.#wake();
    });
    this.#stream.on('error', (err: ServiceError) => {
      this.error = err;
      this.#wake();
    });
    this.#stream.on('end', () => {
      this.ended = true;
      this.#wake();
    });
  }

  static async open(client: EngineClient): Promise<RouterSession> {
    const session = new RouterSession(client);
    session.send({ $case: 'hello', value: { routerId: 'test', protocolMinor: 0 } });
    await session.until(() => session.welcome !== undefined);
    return session;
  }

  send(message: NonNullable<RouterMessage['message']>): void {
    this.#stream.write({ message });
  }

  submit(...submits: Submit[]): void {
    this.send({ $case: 'submitBatch', value: { submits } });
  }

  cancel(): void {
    this.#stream.cancel();
  }

  /** Resolves once the condition holds; rejects when the stream is over and it does not. */
  async until(condition: () => boolean): Promise<void> {
    while (!condition()) {
      if (this.ended || this.error)
        throw this.error ?? new Error('the session ended before the condition held');
      await new Promise<void>((resolve) => this.#watchers.add(resolve));
    }
  }

  /** Resolves with the status that the stream ends with. */
  async failure(): Promise<ServiceError> {
    while (!this.error) {
      if (this.ended) throw new Error('the session ended without an error');
      await new Promise<void>((resolve) => this.#watchers.add(resolve));
    }
    return this.error;
  }

  #note(message: EngineMessage['message']): void {
    switch (message?.$case) {
      case 'welcome':
        this.welcome = message.value;
        this.load = message.value.load;
        break;
      case 'stepOutput': {
        const { handles, counts, tokenIds, logprobs, done, load } = message.value;
        let at = 0;
        for (const [index, handle] of handles.entries()) {
          const own = this.tokens.get(handle) ?? [];
          own.push(...tokenIds.slice(at, (at += counts[index]!)));
          this.tokens.set(handle, own);
        }
        for (const { handle, tokens } of logprobs) {
          const own = this.logprobs.get(handle) ?? [];
          this.logprobs.set(handle, [...own, ...tokens.map(({ logprob }) => logprob)]);
        }
        for (const each of done) this.done.set(each.handle, each);
        this.load = load;
        break;
      }
      case 'rejected':
        this.rejected.set(message.value.handle, message.value);
        break;
      case 'needImage':
        this.needed.push(message.value.hash.toString('hex'));
        break;
      case 'draining':
      case 'heartbeat':
      case undefined:
        break;
    }
  }

  #wake(): void {
    for (const resolve of this.#watchers) resolve();
    this.#watchers.clear();
  }
}

export function connect(address: string): EngineClient {
  return new EngineClient(address, credentials.createInsecure());
}

export interface PutOptions {
  readonly hash?: Buffer;
  readonly sizeBytes?: number;
}

/** Sends a picture in pieces; hash and size as they should be unless given. */
export function putImage(
  client: EngineClient,
  file: Buffer,
  { hash = createHash('sha256').update(file).digest(), sizeBytes = file.length }: PutOptions = {},
): Promise<PutImageResponse> {
  return new Promise((resolve, reject) => {
    const call = client.putImage((err, response) => (err ? reject(err) : resolve(response)));
    call.on('error', () => undefined); // the callback has it
    const chunkBytes = 64 << 10;
    for (let at = 0; at === 0 || at < file.length; at += chunkBytes) {
      call.write({
        hash: at === 0 ? hash : Buffer.alloc(0),
        sizeBytes: at === 0 ? sizeBytes : 0,
        chunk: file.subarray(at, at + chunkBytes),
      });
    }
    call.end();
  });
}

/** Collects a debug generation. */
export function generate(
  client: EngineClient,
  tokenIds: number[],
  sampling: Partial<Sampling> = {},
): Promise<{ tokenIds: number[]; done: Done | undefined }> {
  return new Promise((resolve, reject) => {
    const collected: number[] = [];
    let done: Done | undefined;
    const stream = client.generate({ tokenIds, sampling: { ...GREEDY, ...sampling }, logprobs: undefined });
    stream.on('data', (message: { tokenIds: number[]; done: Done | undefined }) => {
      collected.push(...message.tokenIds);
      done = message.done ?? done;
    });
    stream.on('error', reject);
    stream.on('end', () => resolve({ tokenIds: collected, done }));
  });
}
