// A call at the client's end: messages both ways on a stream of a connection, and the status that ends them.

import { status, type ServiceError } from '@grpc/grpc-js';
import type { ErrorCode } from '../http2/protocol.ts';
import type { Http2Stream, StreamListener } from '../http2/stream.ts';
import { answerStatus, NO_STATUS, resetStatus, statusError } from './answer-status.ts';
import type { ClientConnection } from './client-connection.ts';
import { joined, MessageReader, type Pieces } from './message-reader.ts';
import { ReceiveBudget } from './receive-budget.ts';
import type { CallStatus } from './response-headers.ts';
import { BYTES, sendInPieces, sendMessage } from './send-message.ts';

/** Of the generated definition of a method. */
export interface CalledMethod<Response> {
  readonly path: string;
  readonly responseDeserialize: (bytes: Buffer) => Response;
}

const OK: number = status.OK;

export interface ClientCallOptions {
  /** Of a message that comes. */
  readonly maxMessageBytes: number;
  /** Whole milliseconds until it has failed with DEADLINE_EXCEEDED, which the server is told; default never. */
  readonly timeoutMs?: number;
}

/** Hears nothing any more once the call was cancelled. */
export interface AnswerListener<Response> {
  onMessage(message: Response): void;
  /** The call is over; `failure` is undefined when its status is OK. */
  onEnd(failure: ServiceError | undefined): void;
  /** Nothing that was written waits for the server any more. */
  onDrained?(): void;
}

export class ClientCall<Response> implements StreamListener {
  readonly #connection: ClientConnection;
  readonly #method: CalledMethod<Response>;
  readonly #listener: AnswerListener<Response>;
  readonly #stream: Http2Stream;
  readonly #reader: MessageReader;
  #timer: NodeJS.Timeout | undefined;
  #over = false;

  /** The connection is open. */
  constructor(
    connection: ClientConnection,
    method: CalledMethod<Response>,
    { maxMessageBytes, timeoutMs }: ClientCallOptions,
    listener: AnswerListener<Response>,
  ) {
    this.#connection = connection;
    this.#method = method;
    this.#listener = listener;
    this.#reader = new MessageReader({
      mostBytes: maxMessageBytes,
      budget: new ReceiveBudget(2 * maxMessageBytes),
      take: (message, compressed) => this.#take(message, compressed),
      refuse: (fault) => this.#broken(`a message cannot be read: ${JSON.stringify(fault)}`),
    });
    const headers = timeoutMs === undefined ? [] : ['grpc-timeout', `${timeoutMs}m`];
    this.#stream = connection.request(method.path, headers, this);
    if (timeoutMs !== undefined) this.#timer = setTimeout(() => this.#expired(timeoutMs), timeoutMs).unref();
  }

  get over(): boolean {
    return this.#over;
  }

  /** Sends a message; it is copied at once. What waits for the server is for the caller to bound. */
  write(bytes: Buffer): void {
    if (!this.#over) sendMessage(this.#stream, BYTES, bytes, bytes.length);
  }

  /** Sends a message whose end is long, which is left where it is until it leaves and must not change. */
  writeInPieces(head: Uint8Array, body: Uint8Array): void {
    if (!this.#over) sendInPieces(this.#stream, head, body);
  }

  /** Ends the request behind what waits. */
  halfClose(): void {
    this.#stream.halfClose();
  }

  /** Ends it; nothing more is told. */
  cancel(): void {
    if (this.#over) return;
    this.#over = true;
    clearTimeout(this.#timer);
    this.#reader.close();
    this.#stream.release();
  }

  // --- what the stream tells

  onHeaders(fields: readonly string[], ended: boolean): void {
    const told = answerStatus(fields, ended);
    if (told !== undefined) this.#end(told);
  }

  onData(bytes: Buffer, start: number, end: number): void {
    if (!this.#over) this.#reader.push(bytes, start, end);
    this.#stream.consumed(end - start);
  }

  onEnd(): void {
    this.#end(NO_STATUS);
  }

  onDrained(): void {
    if (!this.#over) this.#listener.onDrained?.();
  }

  onClosed(): void {}

  onGone(code: ErrorCode | undefined): void {
    this.#end(
      code === undefined
        ? { code: status.UNAVAILABLE, details: this.#connection.failure }
        : resetStatus(code),
    );
  }

  #take(pieces: Pieces, compressed: boolean): void {
    if (this.#over) return;
    if (compressed) {
      this.#broken('a compressed message came, which was not asked for');
      return;
    }
    let message: Response;
    try {
      message = this.#method.responseDeserialize(joined(pieces));
    } catch (error) {
      this.#broken(
        `a message is not valid protobuf: ${error instanceof Error ? error.message : String(error)}`,
      );
      return;
    }
    this.#listener.onMessage(message);
  }

  #broken(details: string): void {
    this.#end({ code: status.INTERNAL, details });
  }

  #expired(timeoutMs: number): void {
    this.#end({ code: status.DEADLINE_EXCEEDED, details: `no answer within ${timeoutMs} ms` });
  }

  #end(how: CallStatus): void {
    if (this.#over) return;
    this.cancel();
    this.#listener.onEnd(how.code === OK ? undefined : statusError(how));
  }
}
