import { status } from '@grpc/grpc-js';
import { RpcError } from '../rpc/status.ts';
import type { ServedModel } from './models.ts';

/** Holds requests that came before the first replica said what it serves: without a tokenizer they cannot even be measured. */
export class ModelGate {
  readonly #mostWaiting: number;
  readonly #maxWaitMs: number;
  readonly #waiting = new Set<(model: ServedModel) => void>();
  #model: ServedModel | undefined;

  constructor(mostWaiting: number, maxWaitMs: number) {
    this.#mostWaiting = mostWaiting;
    this.#maxWaitMs = maxWaitMs;
  }

  get waiting(): number {
    return this.#waiting.size;
  }

  open(model: ServedModel): void {
    this.#model = model;
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const resolve of waiting) resolve(model);
  }

  /** The model, as soon as there is one. Rejects with UNAVAILABLE after the longest wait, RESOURCE_EXHAUSTED when too many wait, or the signal's reason. */
  async wait(signal: AbortSignal): Promise<ServedModel> {
    if (this.#model !== undefined) return this.#model;
    signal.throwIfAborted();
    if (this.#waiting.size >= this.#mostWaiting) {
      throw new RpcError(
        status.RESOURCE_EXHAUSTED,
        'QUEUE_FULL',
        `${this.#mostWaiting} requests wait already for a first replica`,
        {
          metadata: { limit: String(this.#mostWaiting) },
          retryAfterMs: 1_000,
        },
      );
    }
    return new Promise((resolve, reject) => {
      const end = (): void => {
        clearTimeout(timer);
        signal.removeEventListener('abort', aborted);
        this.#waiting.delete(opened);
      };
      const opened = (model: ServedModel): void => {
        end();
        resolve(model);
      };
      const aborted = (): void => {
        end();
        reject(signal.reason as Error);
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
      signal.addEventListener('abort', aborted);
      this.#waiting.add(opened);
    });
  }
}
