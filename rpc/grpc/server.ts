// A gRPC server over our own HTTP/2. Handlers are registered as with grpc-js, and hear of calls as from it.

import { createServer, type AddressInfo, type Server as NetServer, type Socket } from 'node:net';
import {
  status,
  type ServiceDefinition,
  type UntypedHandleCall,
  type UntypedServiceImplementation,
} from '@grpc/grpc-js';
import { Connection } from '../http2/connection.ts';
import { Flusher } from '../http2/flusher.ts';
import type { RequestHead } from '../http2/request-head.ts';
import { ServerSession } from '../http2/server-session.ts';
import type { Http2Stream } from '../http2/stream.ts';
import type { CallOptions } from './call.ts';
import { Inflater } from './inflater.ts';
import { joined } from './message-reader.ts';
import type { EncodedMethod, ServedMethod } from './method.ts';
import { ReceiveBudget } from './receive-budget.ts';
import { callHead } from './request-metadata.ts';
import { RequestStreamCall } from './request-stream-call.ts';
import { ACCEPTED_ENCODINGS, httpErrorBlock, statusBlock } from './response-headers.ts';
import { SingleRequestCall } from './single-request-call.ts';

export interface GrpcServerOptions {
  /** Largest message received or sent, in bytes. */
  readonly maxMessageBytes: number;
  readonly keepaliveMs: number;
  readonly keepaliveTimeoutMs: number;
  /** On each connection. */
  readonly maxConcurrentStreams: number;
}

const CONTENT_TYPE = /^application\/grpc(?:$|[+;])/;
/** Of the largest size, there is room for so many that come in at the same time. */
const MESSAGES_RECEIVED = 8;
const MOST_HEADER_BYTES = 16 * 1024;
const STREAM_WINDOW_BYTES = 256 * 1024;
const CONNECTION_WINDOW_BYTES = 4 << 20;

export class GrpcServer {
  readonly #options: GrpcServerOptions;
  readonly #methods = new Map<string, ServedMethod>();
  readonly #connections = new Map<Connection, ServerSession>();
  readonly #flusher = new Flusher();
  readonly #inflater: Inflater;
  readonly #budget: ReceiveBudget;
  readonly #server: NetServer;
  #draining = false;
  #whenClosed: (() => void)[] = [];

  constructor(options: GrpcServerOptions) {
    this.#options = options;
    this.#inflater = new Inflater(options.maxMessageBytes);
    this.#budget = new ReceiveBudget(MESSAGES_RECEIVED * options.maxMessageBytes);
    this.#server = createServer((socket) => this.#accept(socket));
  }

  addService(definition: ServiceDefinition, implementation: UntypedServiceImplementation): void {
    for (const [name, method] of Object.entries(definition)) {
      const handler = implementation[name] ?? implementation[method.originalName ?? ''];
      if (handler !== undefined)
        this.#methods.set(method.path, servedMethod(method, handler, implementation));
    }
  }

  /** Listens and returns the port that was bound. Rejects with the error of the socket. */
  async bind(host: string, port: number): Promise<number> {
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', reject);
      this.#server.listen(port, host, () => {
        this.#server.off('error', reject);
        resolve();
      });
    });
    return (this.#server.address() as AddressInfo).port;
  }

  /** Takes no new connection and no new call; resolves when those under way have ended. */
  async tryShutdown(): Promise<void> {
    this.#draining = true;
    const closed = new Promise<void>((resolve) => {
      if (this.#server.listening) this.#server.close(() => resolve());
      else resolve();
    });
    for (const session of this.#connections.values()) session.drain();
    await closed;
    if (this.#connections.size > 0) await new Promise<void>((resolve) => this.#whenClosed.push(resolve));
  }

  /** Ends everything now. */
  forceShutdown(): void {
    this.#draining = true;
    if (this.#server.listening) this.#server.close();
    for (const connection of this.#connections.keys()) connection.destroy();
  }

  #accept(socket: Socket): void {
    const session = new ServerSession(
      {
        maxConcurrentStreams: this.#options.maxConcurrentStreams,
        maxHeaderListBytes: MOST_HEADER_BYTES,
        streamWindowBytes: STREAM_WINDOW_BYTES,
        connectionWindowBytes: CONNECTION_WINDOW_BYTES,
        now: () => performance.now(),
      },
      (stream, head, tooLarge) => this.#request(connection, stream, head, tooLarge),
    );
    const connection = new Connection(socket, session, {
      keepaliveMs: this.#options.keepaliveMs,
      keepaliveTimeoutMs: this.#options.keepaliveTimeoutMs,
      flusher: this.#flusher,
      onClosed: () => {
        this.#connections.delete(connection);
        if (this.#connections.size > 0 || !this.#draining) return;
        for (const resolve of this.#whenClosed.splice(0)) resolve();
      },
    });
    this.#connections.set(connection, session);
    if (this.#draining) session.drain();
  }

  /** Answers a request that cannot be a call, and makes a call of every other. */
  #request(connection: Connection, stream: Http2Stream, head: RequestHead, tooLarge: boolean): void {
    const refuse = (code: status, details: string, extra?: readonly string[]): void =>
      stream.finishNow(statusBlock({ code, details }, extra));
    if (tooLarge) {
      refuse(status.RESOURCE_EXHAUSTED, `the headers take more than ${MOST_HEADER_BYTES} bytes`);
      return;
    }
    if (head.method !== 'POST') {
      stream.finishNow(httpErrorBlock(405, ['allow', 'POST']));
      return;
    }
    const { contentType, timeoutMs, encoding } = callHead(head.fields);
    if (!CONTENT_TYPE.test(contentType)) {
      stream.finishNow(httpErrorBlock(415));
      return;
    }
    const method = this.#methods.get(head.path);
    if (method === undefined) {
      refuse(status.UNIMPLEMENTED, `The server does not implement the method ${head.path}`);
      return;
    }
    if (encoding !== 'identity' && encoding !== 'gzip') {
      const details = `messages compressed with ${encoding} are not taken, only ${ACCEPTED_ENCODINGS}`;
      refuse(status.UNIMPLEMENTED, details, ['grpc-accept-encoding', ACCEPTED_ENCODINGS]);
      return;
    }
    const options: CallOptions = {
      method,
      connection,
      stream,
      head,
      timeoutMs,
      compressed: encoding === 'gzip',
      inflater: this.#inflater,
      budget: this.#budget,
      maxMessageBytes: this.#options.maxMessageBytes,
    };
    const call = method.requestStream ? new RequestStreamCall(options) : new SingleRequestCall(options);
    stream.listener = call;
    call.start();
  }
}

function servedMethod(
  method: EncodedMethod<object, object>,
  handler: UntypedHandleCall,
  implementation: UntypedServiceImplementation,
): ServedMethod {
  const { path, requestStream, responseStream, requestDeserialize, responseSerialize } = method;
  return {
    path,
    requestStream,
    responseStream,
    deserialize: method.requestFromPieces ?? ((pieces) => requestDeserialize(joined(pieces))),
    serialize: responseSerialize as (message: unknown) => Buffer,
    encoder: method.responseEncoder,
    handle: (handler as (...args: unknown[]) => unknown).bind(implementation),
  };
}
