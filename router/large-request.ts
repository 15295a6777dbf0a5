// Requests that are too large to be decoded where the streams are served: their bytes stay together until the background thread has them.

import type { MethodDefinition } from '@grpc/grpc-js';

/** Larger messages go to the thread: to decode, hash and copy this much takes about a millisecond here. */
const LARGE_MESSAGE = 512 * 1024;

/** In the place of a request, its bytes. */
export class LargeRequest {
  readonly bytes: Buffer;

  constructor(bytes: Buffer) {
    this.bytes = bytes;
  }
}

/** The method with requests that may be a LargeRequest. */
export function largeRequests<Method extends Pick<MethodDefinition<object, object>, 'requestDeserialize'>>(
  method: Method,
): Method {
  return {
    ...method,
    requestDeserialize: (bytes: Buffer): object =>
      bytes.length > LARGE_MESSAGE ? new LargeRequest(bytes) : method.requestDeserialize(bytes),
  };
}
