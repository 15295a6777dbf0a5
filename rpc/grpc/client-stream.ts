// A bidirectional call on a connection of its own, for streams that live long and carry much: what of grpc-js's client such a call needs.
// There is no channel behind it: it connects at once, and when the connection is lost the call is.

import { EventEmitter } from 'node:events';
import { createConnection } from 'node:net';
import { status } from '@grpc/grpc-js';
import { parseAddress } from '../address.ts';
import { ClientSession } from '../http2/client-session.ts';
import { Connection } from '../http2/connection.ts';
import { Flusher } from '../http2/flusher.ts';
import { ErrorCode } from '../http2/protocol.ts';
import type { Http2Stream, StreamListener } from '../http2/stream.ts';
import { MessageReader } from './message-reader.ts';
import { ReceiveBudget } from './receive-budget.ts';
import { BYTES, sendMessage } from './send-message.ts';

/** Of the generated definition of a method. */
export interface BidiMethod<Request, Response> {
  readonly path: string;
  readonly requestSerialize: (message: Request) => Buffer;
  readonly responseDeserialize: (bytes: Buffer) => Response;
}

const WINDOW_BYTES = 4 << 20;
const MOST_HEADER_BYTES = 16 * 1024;
const flusher = new Flusher();

interface Events<Response> {
  data: [message: Response];
  /** The call ended with another status than OK, or did not come about. */
  error: [error: Error];
  end: [];
}

/** Tells of 'data', and of 'end' or 'error' once. What is written may queue without bound: it is for callers that bound what they write. */
export class ClientStream<Request, Response>
  extends EventEmitter<Events<Response>>
  implements StreamListener
{
  readonly #method: BidiMethod<Request, Response>;
  readonly #connection: Connection;
  readonly #stream: Http2Stream;
  readonly #reader: MessageReader;
  #failure = 'the connection closed';
  #over = false;

  constructor(address: string, method: BidiMethod<Request, Response>, maxMessageBytes: number) {
    super();
    this.#method = method;
    this.#reader = new MessageReader({
      mostBytes: maxMessageBytes,
      budget: new ReceiveBudget(2 * maxMessageBytes),
      take: (message, compressed) => this.#take(message, compressed),
      refuse: (fault) => this.#fail(`a message cannot be read: ${JSON.stringify(fault)}`),
    });
    const { host, port } = parseAddress(address);
    const socket = createConnection({ host, port });
    socket.on('error', ({ message }) => (this.#failure = message));
    const session = new ClientSession(
      {
        maxConcurrentStreams: 1,
        maxHeaderListBytes: MOST_HEADER_BYTES,
        streamWindowBytes: WINDOW_BYTES,
        connectionWindowBytes: WINDOW_BYTES,
        now: () => performance.now(),
      },
      Object.entries({
        ':method': 'POST',
        ':scheme': 'http',
        ':path': method.path,
        ':authority': address,
        te: 'trailers',
        'content-type': 'application/grpc',
      }).flat(),
      (fields, ended) => this.#headers(fields, ended),
    );
    this.#stream = session.call;
    this.#stream.listener = this;
    this.#connection = new Connection(socket, session, {
      flusher,
      keepaliveMs: 30_000,
      keepaliveTimeoutMs: 10_000,
      onClosed: () => this.#fail(this.#failure),
    });
  }

  write(message: Request): void {
    if (this.#over) return;
    const bytes = this.#method.requestSerialize(message);
    sendMessage(this.#stream, BYTES, bytes, bytes.length);
  }

  /** Ends it; nothing more is told. */
  cancel(): void {
    if (this.#over) return;
    this.#over = true;
    this.#stream.reset(ErrorCode.CANCEL);
    this.#connection.destroy();
  }

  onData(bytes: Buffer, start: number, end: number): void {
    if (!this.#over) this.#reader.push(bytes, start, end);
    this.#stream.consumed(end - start);
  }

  onEnd(): void {
    this.#fail('the answer ended without a status');
  }

  onDrained(): void {}

  onClosed(): void {}

  onGone(): void {
    this.#fail(this.#failure);
  }

  #take(bytes: Buffer, compressed: boolean): void {
    if (this.#over) return;
    if (compressed) {
      this.#fail('a compressed message came');
      return;
    }
    let message: Response;
    try {
      message = this.#method.responseDeserialize(bytes);
    } catch (error) {
      this.#fail(
        `a message is not valid protobuf: ${error instanceof Error ? error.message : String(error)}`,
      );
      return;
    }
    this.emit('data', message);
  }

  #headers(fields: readonly string[], ended: boolean): void {
    const valueOf = (name: string): string | undefined => {
      const at = fields.indexOf(name);
      return at < 0 ? undefined : fields[at + 1];
    };
    const httpStatus = valueOf(':status');
    const grpcStatus = valueOf('grpc-status');
    if (httpStatus !== undefined && httpStatus !== '200') this.#fail(`HTTP status ${httpStatus}`);
    else if (grpcStatus === '0' && ended) this.#end();
    else if (grpcStatus !== undefined || ended) {
      const name = status[Number(grpcStatus)] ?? 'UNKNOWN';
      this.#fail(`${grpcStatus ?? ''} ${name}: ${decodePercents(valueOf('grpc-message') ?? '')}`);
    }
  }

  #end(): void {
    if (this.#over) return;
    this.cancel();
    this.emit('end');
  }

  #fail(message: string): void {
    if (this.#over) return;
    this.cancel();
    this.emit('error', new Error(message));
  }
}

function decodePercents(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
