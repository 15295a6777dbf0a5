// Gets a picture's file to a replica once, however many requests need it.

import { BinaryWriter } from '@bufbuild/protobuf/wire';
import { EngineService, PutImageRequest } from '../gen/proto/internvl/engine/v1/engine.ts';
import { ClientChannel } from '../rpc/grpc/client-channel.ts';
import type { SplitMessage } from '../rpc/grpc/upload.ts';
import type { PictureFile } from './picture-file.ts';
import { RecentMap } from './recent.ts';

const NOTHING = Buffer.alloc(0);
/** Field number and wire type of PutImageRequest.chunk. */
const CHUNK = (3 << 3) | 2;
/** Beliefs about one replica's pictures; it evicts on its own, and asks again for what it dropped. */
const MOST_BELIEFS = 4096;
/** The answer is a few numbers; a replica that does not take a picture in this time is not well. */
const CALL = { maxMessageBytes: 64 * 1024, timeoutMs: 60_000 };

export interface PictureCounters {
  sent(bytes: number): void;
  /** A picture that did not have to be sent. */
  reused(bytes: number): void;
}

/** What one replica is believed to hold, and what is on its way to it. */
export class PictureSender {
  /** Not the session's connection: no token waits behind a picture. */
  readonly #channel: ClientChannel;
  readonly #counters: PictureCounters;
  readonly #held = new RecentMap<string, true>(MOST_BELIEFS);
  readonly #underWay = new Map<string, Promise<void>>();

  /** `address` is the replica's, HOST:PORT. */
  constructor(address: string, counters: PictureCounters) {
    this.#channel = new ClientChannel(address);
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

  /** What is on its way is not waited for. */
  close(): void {
    this.#channel.close();
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
    await this.#channel.upload(EngineService.putImage, messages(hash, file), CALL);
  }
}

/** PutImageRequests with the file's chunks as they lie in it. */
function* messages(hash: string, file: PictureFile): Generator<SplitMessage, void> {
  let fields: Uint8Array = PutImageRequest.encode({
    hash: Buffer.from(hash, 'hex'),
    sizeBytes: file.length,
    chunk: NOTHING,
  }).finish();
  for (const chunk of file.chunks()) {
    yield { head: new BinaryWriter().raw(fields).uint32(CHUNK).uint32(chunk.length).finish(), body: chunk };
    fields = NOTHING;
  }
}
