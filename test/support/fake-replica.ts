// A replica for router tests: the Engine service over a real socket, without a model. Tests set what it does: the answer, its speed,
// credits, stalls, rejections, lost pictures, drains, and death.

import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Server, ServerCredentials, status, type ServerDuplexStream } from '@grpc/grpc-js';
import { FinishReason } from '../../gen/proto/internvl/v1/generation.ts';
import {
  EngineService,
  type EngineInfo,
  type EngineMessage,
  type EngineServer,
  type RouterMessage,
  type StepOutput,
  type Submit,
} from '../../gen/proto/internvl/engine/v1/engine.ts';
import { RpcError, toServiceError } from '../../rpc/status.ts';
import { Tokenizer } from '../../runtime/tokenizer/tokenizer.ts';

const CHECKPOINT = fileURLToPath(new URL('../fixtures/checkpoints/tiny/', import.meta.url));
/** Small, so that the tiny checkpoint's files come in several pieces. */
const CHUNK_BYTES = 4096;
const FILES = [
  'tokenizer.model',
  'added_tokens.json',
  'tokenizer_config.json',
  'special_tokens_map.json',
  'generation_config.json',
  'config.json',
];

let tokenizer: Tokenizer | undefined;

/** The tokenizer of the tiny checkpoint, read once. */
export function fakeTokenizer(): Tokenizer {
  return (tokenizer ??= Tokenizer.fromDirectory(CHECKPOINT));
}

export interface FakeReplicaOptions {
  readonly info?: Partial<EngineInfo>;
  /** Sequences it takes at once. */
  readonly credits?: number;
  /** Milliseconds between steps. */
  readonly stepMs?: number;
  /** The text of an answer; repeated until max_tokens when `ignoreEos` or shorter. */
  readonly answer?: (submit: Submit) => string;
  /** Served in place of the tiny checkpoint's files. */
  readonly files?: ReadonlyMap<string, Uint8Array>;
  /** 0 = any. */
  readonly port?: number;
  /** A loopback address; default 127.0.0.1. */
  readonly host?: string;
}

interface Sequence {
  readonly session: FakeSession;
  readonly submit: Submit;
  readonly tokens: readonly number[];
  readonly missing: Set<string>;
  produced: number;
}

interface FakeSession {
  readonly stream: ServerDuplexStream<RouterMessage, EngineMessage>;
  lastSeq: number;
}

/** What a test may ask of a replica is what it has seen; what it may tell it is how to behave from now on. */
export class FakeReplica {
  /** While true no tokens come: sequences wait. */
  stalled = false;
  /** Answers a submission with this instead of running it; probes included. */
  reject: ((submit: Submit) => { code: number; reason: string; message: string } | undefined) | undefined;
  /** Called with each submission before anything else. */
  onSubmit: ((submit: Submit) => void) | undefined;
  /** Pictures are refused with this message. */
  refuseImages: string | undefined;
  readonly submits: Submit[] = [];
  readonly aborted: number[] = [];
  /** Hashes in the order they came. */
  readonly puts: string[] = [];
  readonly batches: number[] = [];
  /** Submissions that came without a credit. */
  creditViolations = 0;
  /** Handles that were submitted while live. */
  duplicateHandles = 0;
  tokenizerFetches = 0;
  readonly #options: FakeReplicaOptions;
  #server = new Server();
  #sessions = new Set<FakeSession>();
  #sequences = new Map<number, Sequence>();
  #images = new Set<string>();
  #timer: NodeJS.Timeout | undefined;
  #step = 0;
  #epoch = 1;
  #port = 0;

  static async start(options: FakeReplicaOptions = {}): Promise<FakeReplica> {
    const replica = new FakeReplica(options);
    await replica.#listen(options.port ?? 0);
    return replica;
  }

  private constructor(options: FakeReplicaOptions) {
    this.#options = options;
  }

  get address(): string {
    return `${this.#host}:${this.#port}`;
  }

  get sessions(): number {
    return this.#sessions.size;
  }

  /** Live sequences. */
  get running(): number {
    return this.#sequences.size;
  }

  get liveHandles(): number[] {
    return [...this.#sequences.keys()];
  }

  info(): EngineInfo {
    const tokens = fakeTokenizer();
    return {
      model: 'tiny',
      dtype: 'float32',
      tensorParallelSize: 1,
      maxModelLength: 4096,
      vocabSize: tokens.vocabSize,
      blockSize: 16,
      kvBlocks: 4096,
      maxSequences: this.#credits,
      imageTokens: 256,
      maxImages: 4,
      imageTokenId: tokens.controlTokenId('<IMG_CONTEXT>'),
      tokenizerFingerprint: tokens.fingerprint,
      modelFingerprint: 'model-1',
      maxImageBytes: 20 << 20,
      maxImagePixels: 64 << 20,
      version: 'fake',
      ...this.#options.info,
    };
  }

  /** Dies without a word, as kill -9 would have it. */
  async kill(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#sequences.clear();
    this.#images.clear();
    this.#sessions.clear();
    this.#server.forceShutdown();
    await Promise.resolve();
  }

  /** Comes back on the same port as another process. */
  async restart(): Promise<void> {
    this.#epoch++;
    this.#server = new Server();
    await this.#listen(this.#port);
  }

  /** Ends the sessions and keeps the process: a broken connection. */
  dropSessions(): void {
    const lost = toServiceError(new RpcError(status.UNAVAILABLE, 'LOST', 'the session broke off'));
    for (const session of this.#sessions) session.stream.emit('error', lost);
  }

  drain(undone = false): void {
    for (const { stream } of this.#sessions)
      stream.write({ message: { $case: 'draining', value: { undone } } });
  }

  /** Its picture cache evicts everything. */
  forgetImages(): void {
    this.#images.clear();
  }

  /** Sends what no correct replica would. */
  sendRaw(message: NonNullable<EngineMessage['message']>): void {
    for (const { stream } of this.#sessions) stream.write({ message });
  }

  /** Ends a running sequence with an error. */
  failHandle(handle: number, code: number, reason: string): void {
    const sequence = this.#sequences.get(handle);
    if (sequence === undefined) throw new Error(`handle ${handle} is not running`);
    this.#sequences.delete(handle);
    sequence.session.stream.write({
      message: { $case: 'rejected', value: { handle, code, message: 'failed by the test', reason } },
    });
  }

  resume(): void {
    this.stalled = false;
    this.#wake();
  }

  get #host(): string {
    return this.#options.host ?? '127.0.0.1';
  }

  get #credits(): number {
    return this.#options.credits ?? 64;
  }

  #listen(port: number): Promise<void> {
    this.#server.addService(EngineService, this.#handlers());
    return new Promise((resolve, reject) => {
      this.#server.bindAsync(`${this.#host}:${port}`, ServerCredentials.createInsecure(), (error, bound) => {
        if (error !== null) {
          reject(error);
          return;
        }
        this.#port = bound;
        resolve();
      });
    });
  }

  #handlers(): EngineServer {
    return {
      session: (stream) => this.#open(stream),
      putImage: (call, callback) => {
        let hash = '';
        const digest = createHash('sha256');
        call.on('data', ({ hash: header, chunk }: { hash: Buffer; chunk: Buffer }) => {
          if (header.length > 0) hash = header.toString('hex');
          digest.update(chunk);
        });
        call.on('end', () => {
          const refuse = (message: string): void =>
            callback(toServiceError(new RpcError(status.INVALID_ARGUMENT, 'INVALID_IMAGE', message)));
          if (this.refuseImages !== undefined) refuse(this.refuseImages);
          else if (digest.digest('hex') !== hash) refuse('the bytes do not match the hash');
          else {
            this.puts.push(hash);
            this.#images.add(hash);
            for (const sequence of this.#sequences.values()) sequence.missing.delete(hash);
            this.#wake();
            callback(null, { width: 448, height: 448 });
          }
        });
      },
      getInfo: (_call, callback) => callback(null, this.info()),
      getTokenizer: (call) => {
        this.tokenizerFetches++;
        const files =
          this.#options.files ?? new Map(FILES.map((name) => [name, readFileSync(`${CHECKPOINT}${name}`)]));
        for (const [fileName, file] of files) {
          for (let offset = 0; offset < file.length; offset += CHUNK_BYTES) {
            call.write({ fileName, chunk: Buffer.from(file.subarray(offset, offset + CHUNK_BYTES)) });
          }
        }
        call.end();
      },
      drain: (_call, callback) => callback(null, { running: this.#sequences.size, waiting: 0 }),
      generate: (call) => call.emit('error', { code: status.UNIMPLEMENTED }),
    };
  }

  #open(stream: ServerDuplexStream<RouterMessage, EngineMessage>): void {
    const session: FakeSession = { stream, lastSeq: 0 };
    const close = (): void => {
      this.#sessions.delete(session);
      for (const [handle, sequence] of this.#sequences) {
        if (sequence.session === session) this.#sequences.delete(handle);
      }
    };
    stream.on('cancelled', close);
    stream.on('error', close);
    stream.on('end', () => {
      close();
      stream.end();
    });
    stream.on('data', ({ message }: RouterMessage) => {
      if (message?.$case === 'hello') {
        this.#sessions.add(session);
        stream.write({
          message: {
            $case: 'welcome',
            value: { engineEpoch: `epoch-${this.#epoch}`, info: this.info(), load: this.#load(session) },
          },
        });
      } else if (message?.$case === 'submitBatch') {
        this.batches.push(message.value.submits.length);
        for (const submit of message.value.submits) this.#submit(session, submit);
        // As a step would: what was taken is acknowledged even when no token comes.
        this.#send(session, {});
        this.#wake();
      } else if (message?.$case === 'abort') {
        const done = message.value.handles.filter((handle) => this.#sequences.delete(handle));
        this.aborted.push(...message.value.handles);
        this.#send(session, { done: done.map((handle) => this.#done(handle, FinishReason.ABORT)) });
      }
    });
  }

  #submit(session: FakeSession, submit: Submit): void {
    this.onSubmit?.(submit);
    this.submits.push(submit);
    session.lastSeq = submit.seq;
    const refusal = this.reject?.(submit);
    if (refusal !== undefined) {
      session.stream.write({ message: { $case: 'rejected', value: { handle: submit.handle, ...refusal } } });
      return;
    }
    if (this.#sequences.size >= this.#credits) this.creditViolations++;
    if (this.#sequences.has(submit.handle)) this.duplicateHandles++;
    const missing = new Set(
      submit.images.map(({ hash }) => hash.toString('hex')).filter((hash) => !this.#images.has(hash)),
    );
    for (const hash of missing) {
      session.stream.write({ message: { $case: 'needImage', value: { hash: Buffer.from(hash, 'hex') } } });
    }
    const answer = this.#options.answer?.(submit) ?? 'The quick brown fox jumps over the lazy dog.';
    this.#sequences.set(submit.handle, {
      session,
      submit,
      tokens: fakeTokenizer().encode(answer),
      missing,
      produced: 0,
    });
  }

  #wake(): void {
    if (this.#timer !== undefined || this.#sequences.size === 0) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      if (!this.stalled) this.#runStep();
      if (!this.stalled) this.#wake();
    }, this.#options.stepMs ?? 1);
  }

  #runStep(): void {
    this.#step++;
    for (const session of this.#sessions) {
      const output: Partial<StepOutput> & {
        handles: number[];
        counts: number[];
        tokenIds: number[];
        done: StepOutput['done'];
        logprobs: StepOutput['logprobs'];
      } = {
        handles: [],
        counts: [],
        tokenIds: [],
        done: [],
        logprobs: [],
      };
      for (const [handle, sequence] of this.#sequences) {
        if (sequence.session !== session || sequence.missing.size > 0) continue;
        const { submit, tokens } = sequence;
        const most = submit.sampling?.maxTokens ?? 512;
        const ends = sequence.produced >= tokens.length && submit.sampling?.ignoreEos !== true;
        if (!ends) {
          const token = tokens[sequence.produced % tokens.length]!;
          sequence.produced++;
          output.handles.push(handle);
          output.counts.push(1);
          output.tokenIds.push(token);
          if (submit.logprobs !== undefined) {
            const top = Array.from({ length: submit.logprobs }, (_, rank) => ({
              tokenId: rank,
              logprob: -rank,
            }));
            output.logprobs.push({ handle, tokens: [{ tokenId: token, logprob: -0.5, top }] });
          }
        }
        if (ends || sequence.produced >= most) {
          this.#sequences.delete(handle);
          output.done.push(this.#done(handle, ends ? FinishReason.STOP : FinishReason.LENGTH));
        }
      }
      this.#send(session, output);
    }
  }

  #done(handle: number, finishReason: FinishReason): StepOutput['done'][number] {
    return { handle, finishReason, cachedTokens: 0, queueUs: 100, firstTokenUs: 1100, totalUs: 2000 };
  }

  #send(session: FakeSession, output: Partial<StepOutput>): void {
    session.stream.write({
      message: {
        $case: 'stepOutput',
        value: {
          step: this.#step,
          handles: [],
          counts: [],
          tokenIds: [],
          logprobs: [],
          done: [],
          load: this.#load(session),
          ...output,
        },
      },
    });
  }

  #load(session: FakeSession): NonNullable<StepOutput['load']> {
    return {
      running: this.#sequences.size,
      waiting: 0,
      waitingUncachedTokens: 0,
      kvBlocksUsed: this.#sequences.size * 4,
      kvBlocks: 4096,
      stepUs: 1000,
      lastSubmitSeq: session.lastSeq,
      credits: Math.max(0, this.#credits - this.#sequences.size),
    };
  }
}
