import { status } from '@grpc/grpc-js';
import { RpcError } from '../rpc/status.ts';
import type { Leaving } from './caller.ts';
import type { ServedModel } from './models.ts';

/** Holds requests that came before the first replica said what it serves: without a tokenizer they cannot even be measured. */
export class ModelGate {
  readonly #mostWaiting: number;
  readonly #maxWaitMs: number;
  readonly #mostBytes: number;
  #bytes = 0;
  readonly #waiting = new Set<(model: ServedModel) => void>();
  #model: ServedModel | undefined;

  /** Requests and bytes that may wait, and for how long. */
  constructor(mostWaiting: number, maxWaitMs: number, mostBytes = Infinity) {
    this.#mostBytes = mostBytes;
    this.#mostWaiting = mostWaiting;
    this.#maxWaitMs = maxWaitMs;
  }

  get waiting(): number {
    return this.#waiting.size;
  }

  /** The model that new requests are for; undefined until one is known. */
  get model(): ServedModel | undefined {
    return this.#model;
  }

  open(model: ServedModel): void {
    this.#model = model;
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const resolve of waiting) resolve(model);
  }

  /** The model, as soon as there is one. Rejects with UNAVAILABLE after the longest wait, RESOURCE_EXHAUSTED when too many wait, or why the caller went. */
  async wait(caller: Leaving, bytes = 0): Promise<ServedModel> {
    if (this.#model !== undefined) return this.#model;
    if (caller.gone !== undefined) throw caller.gone;
    const many = this.#waiting.size >= this.#mostWaiting;
    if (many || this.#bytes + bytes > this.#mostBytes) {
      throw new RpcError(
        status.RESOURCE_EXHAUSTED,
        'QUEUE_FULL',
        many
          ? `no replica has connected yet and ${this.#mostWaiting} requests wait for a first one already`
          : `no replica has connected yet and the requests that wait hold ${this.#bytes} bytes already`,
        {
          metadata: { limit: String(many ? this.#mostWaiting : this.#mostBytes) },
          retryAfterMs: 1_000,
        },
      );
    }
    this.#bytes += bytes;
    return new Promise((resolve, reject) => {
      let ended = false;
      const end = (): void => {
        clearTimeout(timer);
        caller.onGone(() => undefined);
        if (!ended) this.#bytes -= bytes;
        ended = true;
        this.#waiting.delete(opened);
      };
      const opened = (model: ServedModel): void => {
        end();
        resolve(model);
      };
      const timer = setTimeout(() => {
        end();
        reject(
          new RpcError(
            status.UNAVAILABLE,
            'NO_REPLICA',
            `no replica connected within ${this.#maxWaitMs} ms`,
            { retryAfterMs: 1_000 },
          ),
        );
      }, this.#maxWaitMs);
      caller.onGone((why) => {
        end();
        reject(why);
      });
      this.#waiting.add(opened);
    });
  }
}
