import { credentials, Metadata } from '@grpc/grpc-js';
import { InferenceClient, type Model } from '../gen/proto/internvl/v1/inference.ts';

const CALL_MS = 2000;

/** Asks a router, through the public API, what it knows of its replicas. */
export class ReadinessProbe {
  readonly #client: InferenceClient;

  constructor(address: string) {
    this.#client = new InferenceClient(address, credentials.createInsecure(), {
      'grpc.initial_reconnect_backoff_ms': 50,
      'grpc.max_reconnect_backoff_ms': 500,
      // The peer is this machine; a proxy from the environment must not come between.
      'grpc.enable_http_proxy': 0,
    });
  }

  /** undefined while the router cannot say: it starts, or no replica has told it of the model yet. */
  getModel(): Promise<Model | undefined> {
    return new Promise((resolve) => {
      const deadline = Date.now() + CALL_MS;
      this.#client.getModel({ model: '' }, new Metadata(), { deadline }, (error, model) =>
        resolve(error === null ? model : undefined),
      );
    });
  }

  close(): void {
    this.#client.close();
  }
}
