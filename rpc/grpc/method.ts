// A method as the server calls it.

import type { Metadata, MethodDefinition } from '@grpc/grpc-js';
import type { Pieces } from './message-reader.ts';

/** Writes messages where they leave from, in place of a buffer for each. */
export interface MessageEncoder<Message = unknown> {
  byteLength(message: Message): number;
  /** Writes exactly `byteLength` bytes. */
  write(message: Message, bytes: Buffer, at: number): void;
}

/**
 * A definition whose requests are large may say what to make of one that lies in pieces, and one whose answers are many small messages how to write one of them without a
 * buffer of its own.
 */
export interface EncodedMethod<Request, Response> extends MethodDefinition<Request, Response> {
  readonly requestFromPieces?: (pieces: Pieces) => Request;
  readonly responseEncoder?: MessageEncoder<Response>;
}

/** Ends a unary or client-streaming call. */
export type AnswerCallback = (error: unknown, response?: unknown, trailers?: Metadata) => void;

export interface ServedMethod {
  readonly path: string;
  readonly requestStream: boolean;
  readonly responseStream: boolean;
  readonly deserialize: (pieces: Pieces) => unknown;
  readonly serialize: (message: unknown) => Buffer;
  readonly encoder: MessageEncoder | undefined;
  readonly handle: (call: unknown, callback?: AnswerCallback) => unknown;
}
