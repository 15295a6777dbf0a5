// What stands between the wire and a service's handlers: whatever a handler throws ends its call with a status, and never reaches the
// process as an uncaught exception.

import { status } from '@grpc/grpc-js';
import type { ServiceDefinition, UntypedHandleCall, UntypedServiceImplementation } from '@grpc/grpc-js';
import './strict-text.ts';
import { RpcError, toServiceError } from './status.ts';
import type { UnexpectedErrorReporter } from './status.ts';

/** What a message that is no protobuf of its type ends its call with. */
export function malformedMessage(path: string, why: string): RpcError {
  return new RpcError(
    status.INVALID_ARGUMENT,
    'MALFORMED_MESSAGE',
    `a message of ${path} is not valid protobuf: ${why}`,
  );
}

type UnaryCallback = (err: Error | null, ...rest: unknown[]) => void;

interface GuardedCall {
  emit(event: string, err: Error): boolean;
}

/** The handlers, each of which may also be async: what it throws or rejects with ends its call. */
export function guardHandlers(
  definition: ServiceDefinition,
  implementation: UntypedServiceImplementation,
  report: UnexpectedErrorReporter,
): UntypedServiceImplementation {
  const guarded: UntypedServiceImplementation = {};
  for (const [name, method] of Object.entries(definition)) {
    const handler = implementation[name] as ((...args: unknown[]) => unknown) | undefined;
    if (!handler) continue; // the server answers UNIMPLEMENTED
    guarded[name] = ((call: GuardedCall, callback?: UnaryCallback) => {
      const refuse = (err: unknown): void => {
        const error = toServiceError(err, report);
        if (method.responseStream) call.emit('error', error);
        else callback?.(error);
      };
      try {
        const result = handler.call(implementation, call, (err: unknown, ...rest: unknown[]) =>
          err ? refuse(err) : callback?.(null, ...rest),
        );
        if (result instanceof Promise) result.catch(refuse);
      } catch (err) {
        refuse(err);
      }
    }) as UntypedHandleCall;
  }
  return guarded;
}

/** A unary or client-streaming handler from a function that returns its answer or throws. */
export function answer<Call, Response>(
  handler: (call: Call) => Response | Promise<Response>,
): (call: Call, callback: (err: Error | null, response?: Response) => void) => void {
  return (call, callback) => {
    const run = async (): Promise<void> => {
      let response: Response;
      try {
        response = await handler(call);
      } catch (err) {
        callback(err instanceof Error ? err : new Error(String(err)));
        return;
      }
      callback(null, response);
    };
    void run();
  };
}
