// A bidirectional call on a connection of its own, for streams that live long and carry much: what of grpc-js's client such a call needs.

import { EventEmitter } from 'node:events';
import { ClientCall, type CalledMethod } from './client-call.ts';
import { ClientConnection } from './client-connection.ts';

/** Of the generated definition of a method. */
export interface BidiMethod<Request, Response> extends CalledMethod<Response> {
  readonly requestSerialize: (message: Request) => Buffer;
}

interface Events<Response> {
  data: [message: Response];
  /** The call ended with another status than OK, or did not come about. */
  error: [error: Error];
  end: [];
}

/** Tells of 'data', and of 'end' or 'error' once. What is written may queue without bound: it is for callers that bound what they write. */
export class ClientStream<Request, Response> extends EventEmitter<Events<Response>> {
  readonly #method: BidiMethod<Request, Response>;
  readonly #connection: ClientConnection;
  readonly #call: ClientCall<Response>;

  constructor(address: string, method: BidiMethod<Request, Response>, maxMessageBytes: number) {
    super();
    this.#method = method;
    this.#connection = new ClientConnection(address);
    this.#call = new ClientCall(
      this.#connection,
      method,
      { maxMessageBytes },
      {
        onMessage: (message) => this.emit('data', message),
        onEnd: (failure) => {
          this.#connection.destroy();
          if (failure === undefined) this.emit('end');
          else this.emit('error', failure);
        },
      },
    );
  }

  write(message: Request): void {
    if (!this.#call.over) this.#call.write(this.#method.requestSerialize(message));
  }

  /** Ends it; nothing more is told. */
  cancel(): void {
    if (this.#call.over) return;
    this.#call.cancel();
    this.#connection.destroy();
  }
}
