// What would hold the event loop, and with it every stream, up for milliseconds: decoding large requests, hashing their pictures, and
// tokenizing long texts. One thread does it; it starts when there is something for it to do.

import { status } from '@grpc/grpc-js';
import { Worker } from 'node:worker_threads';
import { RpcError } from '../rpc/status.ts';
import { PromptError, type Prompt } from '../runtime/tokenizer/prompt.ts';
import type { BackgroundAnswer, BackgroundJob } from './background-worker.ts';
import { MalformedRequest, picturesIn, type RequestTypes } from './decode-request.ts';
import type { Chat, ServedModel } from './models.ts';

interface Pending {
  readonly bytes: number;
  readonly resolve: (answer: BackgroundAnswer) => void;
  readonly reject: (error: Error) => void;
}

export class Background {
  readonly #mostBytes: number;
  readonly #pending = new Map<number, Pending>();
  readonly #hashes = new WeakMap<Uint8Array, string>();
  #bytes = 0;
  #nextId = 1;
  #worker: Worker | undefined;
  /** Whose tokenizer the thread has. */
  #model: ServedModel | undefined;

  /** Bytes of pictures and texts that may be under way. */
  constructor(mostBytes: number) {
    this.#mostBytes = mostBytes;
  }

  /** True once the thread has been started. */
  get started(): boolean {
    return this.#worker !== undefined;
  }

  /**
   * The request in `pieces`, its data: URLs decoded; `hashOf` then knows its pictures. The pieces move to the thread: their bytes are
   * gone afterwards. Throws MalformedRequest, and RpcError when a URL cannot be used or too much is under way.
   */
  async decode<Type extends keyof RequestTypes>(
    type: Type,
    pieces: readonly Uint8Array[],
  ): Promise<RequestTypes[Type]> {
    const own = pieces.map(movable);
    const bytes = own.reduce((sum, { length }) => sum + length, 0);
    const moved = own.map(({ buffer }) => buffer);
    const answer = await this.#run({ kind: 'request', type, pieces: own }, bytes, moved);
    if (answer.kind === 'malformed') throw new MalformedRequest(answer.message);
    if (answer.kind === 'refused')
      throw new RpcError(answer.code, answer.reason, answer.message, { metadata: answer.metadata ?? {} });
    if (answer.kind !== 'request') throw new Error(`the thread answered ${answer.kind} to request`);
    const { request, hashes } = answer;
    let index = 0;
    for (const picture of picturesIn(request.messages)) {
      // Between threads a Buffer becomes a plain array.
      const { buffer, byteOffset, byteLength } = picture.value;
      picture.value = Buffer.from(buffer, byteOffset, byteLength);
      this.#hashes.set(picture.value, hashes[index++]!);
    }
    return request as RequestTypes[Type];
  }

  /** SHA-256 in hex of a picture that `decode` gave; undefined for anything else. */
  hashOf(data: Uint8Array): string | undefined {
    return this.#hashes.get(data);
  }

  /** What `model.promptOf(chat)` gives. */
  async prompt(model: ServedModel, chat: Chat): Promise<Prompt> {
    const { files, promptModel } = model;
    const bytes = chat.messages.reduce((sum, { text }) => sum + text.length, 0);
    const tokenizer = model === this.#model ? {} : { files };
    const running = this.#run({ kind: 'prompt', chat, promptModel, ...tokenizer }, bytes, []);
    // Only now: a job that is refused takes no tokenizer to the thread.
    this.#model = model;
    const answer = await running;
    if (answer.kind === 'bad prompt') throw new PromptError(answer.code, answer.message);
    if (answer.kind !== 'prompt') throw new Error(`the thread answered ${answer.kind} to prompt`);
    return answer.prompt;
  }

  async close(): Promise<void> {
    await this.#worker?.terminate();
  }

  #run(job: BackgroundJob, bytes: number, transfer: readonly ArrayBuffer[]): Promise<BackgroundAnswer> {
    if (this.#bytes + bytes > this.#mostBytes) {
      throw new RpcError(
        status.RESOURCE_EXHAUSTED,
        'QUEUE_FULL',
        `large requests that are being read already hold ${this.#bytes} bytes`,
        { metadata: { limit: String(this.#mostBytes) }, retryAfterMs: 1_000 },
      );
    }
    const id = this.#nextId++;
    const worker = (this.#worker ??= this.#start());
    return new Promise((resolve, reject) => {
      this.#bytes += bytes;
      this.#pending.set(id, { bytes, resolve, reject });
      worker.postMessage({ id, job }, transfer);
    });
  }

  #start(): Worker {
    const worker = new Worker(
      new URL(`./background-worker${import.meta.filename.slice(-3)}`, import.meta.url),
      {
        resourceLimits: { maxYoungGenerationSizeMb: 8 },
      },
    );
    worker.unref();
    worker.on('message', ({ id, answer }: { id: number; answer: BackgroundAnswer }) =>
      this.#take(id)?.resolve(answer),
    );
    // Another one takes its place with the next job.
    worker.on('error', (error) => this.#lost(worker, error));
    worker.on('exit', () => this.#lost(worker, new Error('the background thread ended')));
    return worker;
  }

  #lost(worker: Worker, error: Error): void {
    if (worker !== this.#worker) return;
    this.#worker = undefined;
    this.#model = undefined;
    for (const id of this.#pending.keys()) this.#take(id)?.reject(error);
  }

  #take(id: number): Pending | undefined {
    const pending = this.#pending.get(id);
    this.#pending.delete(id);
    this.#bytes -= pending?.bytes ?? 0;
    return pending;
  }
}

/** The same bytes in memory that is theirs alone: a view of something larger cannot move without it. */
function movable(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  const alone = bytes.buffer instanceof ArrayBuffer && bytes.buffer.byteLength === bytes.byteLength;
  return alone ? (bytes as Uint8Array<ArrayBuffer>) : new Uint8Array(bytes);
}
