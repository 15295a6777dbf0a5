// A client-streaming call of large messages and one answer. A message is made when the one before it has left, and is not copied but into the
// bytes that leave: at most one waits, however little the server reads.

import { status } from '@grpc/grpc-js';
import { fromServiceError } from '../status.ts';
import { statusError } from './answer-status.ts';
import { ClientCall, type CalledMethod, type ClientCallOptions } from './client-call.ts';
import type { ClientConnection } from './client-connection.ts';

/** A serialized message of which the end is long. It must not change any more. */
export interface SplitMessage {
  readonly head: Uint8Array;
  readonly body: Uint8Array;
}

/** Resolves with the answer, which may come before all messages are sent and ends the sending; rejects with RpcError, and with what `messages` throws. */
export function upload<Response>(
  connection: ClientConnection,
  method: CalledMethod<Response>,
  messages: Iterable<SplitMessage>,
  options: ClientCallOptions,
): Promise<Response> {
  return new Promise((resolve, reject) => {
    const left = messages[Symbol.iterator]();
    let answer: { readonly message: Response } | undefined;
    let answers = 0;
    const sendNext = (): void => {
      try {
        const next = left.next();
        if (next.done === true) call.halfClose();
        else call.writeInPieces(next.value.head, next.value.body);
      } catch (error) {
        call.cancel();
        reject(error);
      }
    };
    const call = new ClientCall(connection, method, options, {
      onDrained: sendNext,
      onMessage: (message) => {
        answer = { message };
        answers++;
      },
      onEnd: (failure) => {
        if (failure !== undefined) reject(fromServiceError(failure));
        else if (answer !== undefined && answers === 1) resolve(answer.message);
        else
          reject(
            fromServiceError(
              statusError({ code: status.INTERNAL, details: `${answers} answers came in the place of one` }),
            ),
          );
      },
    });
    sendNext();
  });
}
