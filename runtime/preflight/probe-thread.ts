import { Worker } from 'node:worker_threads';
import type { EngineThreadEvents } from '../engine-thread/engine-thread.ts';
import type { Joined } from '../engine-thread/messages.ts';
import type { RankThread } from '../shard/rank-thread.ts';
import type { Extent, Measured } from './measurement.ts';

export interface ProbeOptions {
  readonly rank: number;
  readonly worldSize: number;
  /** Where peers reach this rank. */
  readonly host: string;
  /** For a peer that does not answer. */
  readonly timeoutMs: number;
}

export type ToProbe =
  | { readonly type: 'join' }
  | { readonly type: 'preflight'; readonly peerAddresses: readonly Uint8Array[]; readonly extent: Extent };

export type FromProbe =
  | { readonly type: 'joined'; readonly addresses: readonly Uint8Array[] }
  | { readonly type: 'measured'; readonly measured: Measured }
  | { readonly type: 'failed'; readonly message: string };

/** A rank without a model, of which a group can only ask that it joins and measures. One request at a time. */
export class ProbeThread implements RankThread {
  readonly progress = 0;
  readonly #worker: Worker;

  constructor(options: ProbeOptions) {
    const entry = new URL(`./probe-worker${import.meta.filename.slice(-3)}`, import.meta.url);
    this.#worker = new Worker(entry, { workerData: options });
    this.#worker.setMaxListeners(0);
    this.#worker.on('error', () => undefined); // whoever waits has it
  }

  listen(_events: EngineThreadEvents): void {
    // Nothing happens in it but what is asked for.
  }

  async join(): Promise<Joined> {
    const reply = await this.#ask({ type: 'join' });
    if (reply.type !== 'joined') throw new Error(`join was answered with ${reply.type}`);
    return { addresses: reply.addresses, maxKvBlocks: 0 };
  }

  async preflight(peerAddresses: readonly Uint8Array[], extent: Extent): Promise<Measured> {
    const reply = await this.#ask({ type: 'preflight', peerAddresses, extent });
    if (reply.type !== 'measured') throw new Error(`preflight was answered with ${reply.type}`);
    return reply.measured;
  }

  load(): Promise<{ readonly bytes: number }> {
    return Promise.reject(new Error('a rank of a preflight has nothing to load'));
  }

  start(): Promise<void> {
    return Promise.reject(new Error('a rank of a preflight has no model to start'));
  }

  plan(): void {
    // No group starts it, so none plans for it.
  }

  async close(): Promise<void> {
    await this.#worker.terminate();
  }

  #ask(request: ToProbe): Promise<FromProbe> {
    return new Promise((resolve, reject) => {
      const done = (): void => {
        this.#worker.off('message', onMessage).off('error', onError).off('exit', onExit);
      };
      const onMessage = (reply: FromProbe): void => {
        done();
        if (reply.type === 'failed') reject(new Error(reply.message));
        else resolve(reply);
      };
      const onError = (error: Error): void => {
        done();
        reject(error);
      };
      const onExit = (): void => onError(new Error('the measuring thread ended'));
      this.#worker.on('message', onMessage).on('error', onError).on('exit', onExit);
      this.#worker.postMessage(request);
    });
  }
}
