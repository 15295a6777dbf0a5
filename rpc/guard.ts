// What stands between the wire and a service's handlers: bytes that are no message end their call with INVALID_ARGUMENT, and whatever
// a handler throws ends its call with a status. Neither reaches the process as an uncaught exception.

import { ServerInterceptingCall, status } from '@grpc/grpc-js';
import type {
  ServiceDefinition,
  ServerInterceptor,
  UntypedHandleCall,
  UntypedServiceImplementation,
} from '@grpc/grpc-js';
import './strict-text.ts';
import { RpcError, toServiceError } from './status.ts';
import type { UnexpectedErrorReporter } from './status.ts';

/** Takes the place of a message that did not parse, until `refuseUndecodable` sees it. */
class Undecodable {
  readonly why: string;

  constructor(why: string) {
    this.why = why;
  }
}

/** The definition with deserialisers that never throw; needs the interceptor `refuseUndecodable` and guarded handlers. */
export function tolerantDefinition(definition: ServiceDefinition): ServiceDefinition {
  return Object.fromEntries(
    Object.entries(definition).map(([name, method]) => [
      name,
      {
        ...method,
        requestDeserialize: (bytes: Buffer): unknown => {
          try {
            return method.requestDeserialize(bytes);
          } catch (err) {
            return new Undecodable(err instanceof Error ? err.message : String(err));
          }
        },
      },
    ]),
  );
}

/**
 * Ends a call one of whose messages did not parse. A call with one request needs nobody between it and the wire, where each message that
 * it sends would pay for that: its handler's guard looks at the request.
 */
export const refuseUndecodable: ServerInterceptor = (method, call) => {
  // The declared type asks for the class; grpc-js itself only ever uses the interface.
  if (!method.requestStream) return call as ServerInterceptingCall;
  return new ServerInterceptingCall(call, {
    start: (next) =>
      next({
        onReceiveMessage: (message: unknown, pass) => {
          if (!(message instanceof Undecodable)) {
            pass(message);
            return;
          }
          const error = toServiceError(malformedMessage(method.path, message.why));
          call.sendStatus({ code: error.code, details: error.details, metadata: error.metadata });
        },
      }),
  });
};

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
  readonly request?: unknown;
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
    if (!handler) continue; // grpc-js answers UNIMPLEMENTED
    guarded[name] = ((call: GuardedCall, callback?: UnaryCallback) => {
      const refuse = (err: unknown): void => {
        const error = toServiceError(err, report);
        if (method.responseStream) call.emit('error', error);
        else callback?.(error);
      };
      if (call.request instanceof Undecodable) {
        refuse(malformedMessage(method.path, call.request.why));
        return;
      }
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
