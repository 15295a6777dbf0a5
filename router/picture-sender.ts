// Gets a picture's file to a replica once, however many requests need it.

import { Metadata, type ClientWritableStream } from '@grpc/grpc-js';
import { BinaryWriter } from '@bufbuild/protobuf/wire';
import { EngineService, PutImageRequest, type EngineClient } from '../gen/proto/internvl/engine/v1/engine.ts';
import { fromServiceError } from '../rpc/status.ts';
import { CHUNK_BYTES, type PictureFile } from './picture-file.ts';
import { RecentMap } from './recent.ts';

const NOTHING = Buffer.alloc(0);
/** Field number and wire type of PutImageRequest.chunk. */
const CHUNK = (3 << 3) | 2;
/** Room in a message beside its chunk: hash, size and the lengths. */
const MOST_HEAD_BYTES = 64;
/** Beliefs about one replica's pictures; it evicts on its own, and asks again for what it dropped. */
const MOST_BELIEFS = 4096;
/** A replica that does not take a picture in this time is not well. */
const SEND_DEADLINE_MS = 60_000;

export interface PictureCounters {
  sent(bytes: number): void;
  /** A picture that did not have to be sent. */
  reused(bytes: number): void;
}

/** What one replica is believed to hold, and what is on its way to it. */
export class PictureSender {
  readonly #client: Pick<EngineClient, 'makeClientStreamRequest'>;
  readonly #counters: PictureCounters;
  readonly #held = new RecentMap<string, true>(MOST_BELIEFS);
  readonly #underWay = new Map<string, Promise<void>>();

  constructor(client: Pick<EngineClient, 'makeClientStreamRequest'>, counters: PictureCounters) {
    this.#client = client;
    this.#counters = counters;
  }

  /** True when the replica is believed to hold it. */
  holds(hash: string): boolean {
    return this.#held.has(hash);
  }

  /** Resolves when the replica holds the picture, at once when it is believed to; rejects with RpcError. */
  async ensure(hash: string, file: PictureFile): Promise<void> {
    if (this.#held.get(hash) !== undefined) {
      this.#counters.reused(file.length);
      return;
    }
    const sending = this.#underWay.get(hash);
    if (sending !== undefined) {
      this.#counters.reused(file.length);
      await sending;
      return;
    }
    await this.#start(hash, file);
  }

  /** The replica asked for a picture: it is sent unless it is on its way already. */
  async resend(hash: string, file: PictureFile): Promise<void> {
    this.#held.delete(hash);
    await (this.#underWay.get(hash) ?? this.#start(hash, file));
  }

  /** The replica was restarted: it holds nothing. */
  forgetAll(): void {
    this.#held.clear();
  }

  #start(hash: string, file: PictureFile): Promise<void> {
    const sending = this.#put(hash, file)
      .then(() => this.#held.set(hash, true))
      .finally(() => this.#underWay.delete(hash));
    this.#underWay.set(hash, sending);
    return sending;
  }

  async #put(hash: string, file: PictureFile): Promise<void> {
    this.#counters.sent(file.length);
    const deadline = Date.now() + SEND_DEADLINE_MS;
    const answer = new PendingAnswer();
    const { path, responseDeserialize } = EngineService.putImage;
    const call = this.#client.makeClientStreamRequest(
      path,
      (message: Buffer) => message,
      responseDeserialize,
      new Metadata(),
      { deadline },
      (error) => {
        if (error === null) answer.resolve();
        else answer.reject(fromServiceError(error));
      },
    );
    // Its status comes through the callback; an unheard 'error' event would end the process.
    call.on('error', () => undefined);
    // One buffer for all messages: each is copied into its frame before its write is done.
    const message = Buffer.allocUnsafe(Math.min(CHUNK_BYTES, file.length) + MOST_HEAD_BYTES);
    let head: Uint8Array = PutImageRequest.encode({
      hash: Buffer.from(hash, 'hex'),
      sizeBytes: file.length,
      chunk: NOTHING,
    }).finish();
    for (const chunk of file.chunks()) {
      // After a failure nothing is written any more.
      await Promise.race([written(call, writeMessage(message, head, chunk)), answer.settling]);
      if (answer.settled) break;
      head = NOTHING;
    }
    if (!answer.settled) call.end();
    await answer.promise;
  }
}

/** A PutImageRequest of the fields in `head` and a chunk, at the beginning of `into`. */
function writeMessage(into: Buffer, head: Uint8Array, chunk: Uint8Array): Buffer {
  const start = new BinaryWriter().raw(head).uint32(CHUNK).uint32(chunk.length).finish();
  into.set(start);
  into.set(chunk, start.length);
  return into.subarray(0, start.length + chunk.length);
}

/** Resolves when the transport has the message. */
function written(call: ClientWritableStream<Buffer>, message: Buffer): Promise<void> {
  return new Promise((resolve) => call.write(message, () => resolve()));
}

/** The one answer of a call, which may come before everything is written. */
class PendingAnswer {
  settled = false;
  resolve!: () => void;
  reject!: (error: Error) => void;
  readonly promise = new Promise<void>((resolve, reject) => {
    this.resolve = () => {
      this.settled = true;
      resolve();
    };
    this.reject = (error) => {
      this.settled = true;
      reject(error);
    };
  });
  /** Resolves when the answer is there, whatever it is. */
  readonly settling = this.promise.catch(() => undefined);
}
