// A call at the server's end without the stream that grpc-js puts before it: each message of an answer goes to HTTP/2 in one call. An
// object stream between costs as much again for each message, and keeps an order that HTTP/2 keeps anyway.

import { ServerInterceptingCall } from '@grpc/grpc-js';
import type { Metadata, ServerInterceptingCallInterface, ServerInterceptor } from '@grpc/grpc-js';
import type { WritableCall } from './writer.ts';

/** Messages on their way to HTTP/2 before the writer has to wait: as many as a grpc-js stream takes. */
const MOST_UNSENT = 16;

const BEHIND = Symbol('call behind the stream');

/** Metadata of a request on its way through the interceptor to the handler: grpc-js gives both the same object. */
interface RequestMetadata extends Metadata {
  [BEHIND]?: ServerInterceptingCallInterface;
}

/** Lets handlers of server-streaming methods write past their stream. */
export const rememberCall: ServerInterceptor = (method, call) => {
  // The declared type asks for the class; grpc-js itself only ever uses the interface.
  if (method.requestStream || !method.responseStream) return call as ServerInterceptingCall;
  return new ServerInterceptingCall(call, {
    start: (next) =>
      next({
        onReceiveMetadata: (metadata: RequestMetadata, pass) => {
          metadata[BEHIND] = call;
          pass(metadata);
        },
      }),
  });
};

export interface StreamingCall<T> extends WritableCall<T> {
  readonly metadata: Metadata;
}

/** The same call, its messages written past its stream; ending and failing it stay the stream's. The call itself where nobody remembered it. */
export function directCall<T>(call: StreamingCall<T>): WritableCall<T> {
  const behind = (call.metadata as RequestMetadata)[BEHIND];
  return behind === undefined ? call : new DirectCall(call, behind);
}

class DirectCall<T> implements WritableCall<T> {
  /** Where `abortCall` looks for what it resets. */
  readonly call: ServerInterceptingCallInterface;
  readonly #stream: WritableCall<T>;
  #unsent = 0;
  #full = false;
  #written: (() => void) | undefined;
  #drained: (() => void) | undefined;

  constructor(stream: WritableCall<T>, call: ServerInterceptingCallInterface) {
    this.#stream = stream;
    this.call = call;
  }

  /** `written` is the same for all messages of a call. */
  write(message: T, written?: () => void): boolean {
    this.#written = written;
    this.#unsent++;
    this.#full = this.#unsent >= MOST_UNSENT;
    this.call.sendMessage(message, this.#sent);
    return !this.#full;
  }

  end(): void {
    this.#stream.end();
  }

  on(event: string, listener: () => void): unknown {
    if (event !== 'drain') return this.#stream.on(event, listener);
    this.#drained = listener;
    return this;
  }

  emit(event: string, ...args: unknown[]): boolean {
    return this.#stream.emit(event, ...args);
  }

  readonly #sent = (): void => {
    this.#unsent--;
    this.#written?.();
    if (!this.#full || this.#unsent > 0) return;
    this.#full = false;
    this.#drained?.();
  };
}
