// Requests that are too large to be decoded where the streams are served: their bytes stay as they came until the background thread has them.

import type { MethodDefinition } from '@grpc/grpc-js';
import { joined, type Pieces } from '../rpc/grpc/message-reader.ts';

/** Larger messages go to the thread: to decode, hash and copy this much takes about a millisecond here. */
const LARGE_MESSAGE = 512 * 1024;

/** In the place of a request, its bytes. */
export class LargeRequest {
  readonly pieces: Pieces;

  constructor(pieces: Pieces) {
    this.pieces = pieces;
  }
}

/** The method with requests that may be a LargeRequest. */
export function largeRequests<Method extends Pick<MethodDefinition<object, object>, 'requestDeserialize'>>(
  method: Method,
): Method & { readonly requestFromPieces: (pieces: Pieces) => object } {
  return {
    ...method,
    requestFromPieces: (pieces) => {
      const bytes = pieces.reduce((sum, { length }) => sum + length, 0);
      return bytes > LARGE_MESSAGE ? new LargeRequest(pieces) : method.requestDeserialize(joined(pieces));
    },
  };
}
