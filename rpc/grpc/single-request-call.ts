import { status } from '@grpc/grpc-js';
import { ServerCall } from './call.ts';

/** A call with one request: its handler is called when that is there. */
export class SingleRequestCall extends ServerCall {
  request: unknown;
  #requests = 0;

  start(): void {
    // What comes starts it.
  }

  protected take(message: unknown): void {
    this.request = message;
    if (++this.#requests > 1)
      this.fail({ code: status.INTERNAL, details: `${this.method.path} takes one message, and more came` });
  }

  protected halfClosed(): void {
    if (this.#requests > 0) this.run();
    else
      this.fail({ code: status.INTERNAL, details: `${this.method.path} takes one message, and none came` });
  }
}
