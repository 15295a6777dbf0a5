// A connection to a server, for one call or many at a time. There is no channel behind it: it connects at once, and when it is lost its calls
// are.

import { createConnection } from 'node:net';
import { parseAddress } from '../address.ts';
import { ClientSession } from '../http2/client-session.ts';
import { Connection } from '../http2/connection.ts';
import { Flusher } from '../http2/flusher.ts';
import { encodeHeaders } from '../http2/header-encoder.ts';
import { KEEPALIVE_MS, KEEPALIVE_TIMEOUT_MS } from '../keepalive.ts';
import type { Http2Stream, StreamListener } from '../http2/stream.ts';

const READ_BYTES = 64 * 1024;
const WINDOW_BYTES = 4 << 20;
const MOST_HEADER_BYTES = 16 * 1024;
/** Calls that a server may refuse or break at once before it is believed to do nothing else. */
const MOST_CALLS_BROKEN = 256;
const flusher = new Flusher();

export class ClientConnection {
  readonly #address: string;
  readonly #session: ClientSession;
  readonly #connection: Connection;
  #failure: string;

  /** Throws AddressError. */
  constructor(address: string, onClosed: () => void = () => undefined) {
    const { host, port } = parseAddress(address);
    this.#address = address;
    this.#failure = `the connection to ${address} closed`;
    const socket = createConnection({
      host,
      port,
      // Otherwise each read, if only of one token, is given READ_BYTES of its own, which the collector has to see to.
      onread: {
        buffer: Buffer.allocUnsafeSlow(READ_BYTES),
        callback: (bytes, buffer) => {
          this.#connection.received((buffer as Buffer).subarray(0, bytes));
          return true;
        },
      },
    });
    // Of several addresses that failed, there is no message but a code.
    socket.on('error', ({ message, code }: NodeJS.ErrnoException) => {
      this.#failure = `the connection to ${address} failed: ${message === '' ? code : message}`;
    });
    this.#session = new ClientSession({
      maxConcurrentStreams: MOST_CALLS_BROKEN,
      maxHeaderListBytes: MOST_HEADER_BYTES,
      streamWindowBytes: WINDOW_BYTES,
      connectionWindowBytes: WINDOW_BYTES,
      now: () => performance.now(),
    });
    this.#connection = new Connection(socket, this.#session, {
      flusher,
      keepaliveMs: KEEPALIVE_MS,
      keepaliveTimeoutMs: KEEPALIVE_TIMEOUT_MS,
      onClosed,
    });
  }

  /** Whether `request` may be called. */
  get open(): boolean {
    return this.#session.open;
  }

  /** Why it is gone, in words that name the address. */
  get failure(): string {
    return this.#failure;
  }

  /** Begins a call of a method, with headers beside those that every call has. */
  request(path: string, headers: readonly string[], listener: StreamListener): Http2Stream {
    const fields = [
      ':method',
      'POST',
      ':scheme',
      'http',
      ':path',
      path,
      ':authority',
      this.#address,
      'te',
      'trailers',
      'content-type',
      'application/grpc',
      ...headers,
    ];
    return this.#session.request(encodeHeaders(fields), listener);
  }

  /** Ends it and its calls now. */
  destroy(): void {
    this.#connection.destroy();
  }
}
