// One watch, from its request to its end: parsed events in order. Reads with a single loop, so events cannot overtake each other.
import type { IncomingMessage } from 'node:http';
import type { Clock } from './clock.ts';
import type { Status } from './errors.ts';
import { ApiError, TransportError } from './errors.ts';
import type { Identified } from './identity.ts';
import { lines } from './lines.ts';

/** A BOOKMARK's object has a kind and a resourceVersion, nothing else. */
export interface WatchEvent<T> {
  readonly type: 'ADDED' | 'MODIFIED' | 'DELETED' | 'BOOKMARK';
  readonly object: T;
}

/** A single object is at most about 1.5 MiB in etcd; this leaves room for its JSON. */
const LONGEST_LINE_BYTES = 16 << 20;

export interface WatchBody {
  /** Names the watch in errors. */
  readonly what: string;
  readonly response: IncomingMessage;
  /** The watch ends with `Inactive` when no byte has come for this long. */
  readonly inactivityMs: number;
  readonly clock: Clock;
  /** The request's; its reason is the error when it was aborted. */
  readonly signal: AbortSignal;
}

/**
 * Ends when the server ends the stream; throws ApiError for an ERROR event (410: the version is too old), TransportError when it broke off, went silent
 * or said something that is no event.
 */
export async function* watchEvents<T extends Identified>({
  what,
  response,
  inactivityMs,
  clock,
  signal,
}: WatchBody): AsyncGenerator<WatchEvent<T>, void, undefined> {
  const silent = (): void => {
    response.destroy(new TransportError('Inactive', `${what}: no byte for ${inactivityMs / 1000} s`));
  };
  let cancel = clock.after(inactivityMs, silent);
  const heard = (): void => {
    cancel();
    cancel = clock.after(inactivityMs, silent);
  };
  try {
    for await (const line of lines(noticed(response, heard), LONGEST_LINE_BYTES)) yield parse<T>(what, line);
  } catch (error) {
    if (error instanceof TransportError || error instanceof ApiError) throw error;
    if (signal.aborted && signal.reason instanceof TransportError) throw signal.reason;
    throw new TransportError('Connection', `${what}: ${String(error)}`, { cause: error });
  } finally {
    cancel();
    response.destroy();
  }
}

async function* noticed(body: AsyncIterable<Buffer>, heard: () => void): AsyncGenerator<Buffer> {
  for await (const chunk of body) {
    heard();
    yield chunk;
  }
}

function parse<T extends Identified>(what: string, line: string): WatchEvent<T> {
  let event: { readonly type?: unknown; readonly object?: unknown };
  try {
    event = JSON.parse(line) as typeof event;
  } catch (error) {
    throw new TransportError('Malformed', `${what}: not JSON: ${line.slice(0, 200)}`, { cause: error });
  }
  if (
    typeof event !== 'object' ||
    event === null ||
    typeof event.object !== 'object' ||
    event.object === null
  ) {
    throw new TransportError('Malformed', `${what}: an event without an object: ${line.slice(0, 200)}`);
  }
  switch (event.type) {
    case 'ADDED':
    case 'MODIFIED':
    case 'DELETED':
      if (!(event.object as Identified).metadata?.name) {
        throw new TransportError('Malformed', `${what}: an object without a name: ${line.slice(0, 200)}`);
      }
      return { type: event.type, object: event.object as T };
    case 'BOOKMARK':
      return { type: 'BOOKMARK', object: event.object as T };
    case 'ERROR': {
      const status = event.object as Status;
      throw new ApiError(what, status.code ?? 500, status, '', undefined);
    }
    default:
      throw new TransportError('Malformed', `${what}: unknown type of event: ${line.slice(0, 200)}`);
  }
}
