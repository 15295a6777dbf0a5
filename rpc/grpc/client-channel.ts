// Calls to one address that share a connection: it is made for the first of them, closed when there was none for some time, and made anew once
// it is lost or its server takes no more calls on it.

import { status } from '@grpc/grpc-js';
import { RpcError } from '../status.ts';
import type { CalledMethod, ClientCallOptions } from './client-call.ts';
import { ClientConnection } from './client-connection.ts';
import { upload, type SplitMessage } from './upload.ts';

export interface ClientChannelOptions {
  /** The connection is closed after so long without a call. Default 30 s. */
  readonly idleMs?: number;
}

const DEFAULT_IDLE_MS = 30_000;

export class ClientChannel {
  readonly #address: string;
  readonly #idleMs: number;
  /** The newest is last, and takes the calls; others only finish theirs. */
  readonly #connections = new Set<ClientConnection>();
  #current: ClientConnection | undefined;
  #calls = 0;
  #idleTimer: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(address: string, { idleMs = DEFAULT_IDLE_MS }: ClientChannelOptions = {}) {
    this.#address = address;
    this.#idleMs = idleMs;
  }

  /** Connections that stand or are being made. */
  get connections(): number {
    return this.#connections.size;
  }

  /** A client-streaming call: see `upload`. */
  async upload<Response>(
    method: CalledMethod<Response>,
    messages: Iterable<SplitMessage>,
    options: ClientCallOptions,
  ): Promise<Response> {
    if (this.#closed)
      throw new RpcError(status.UNAVAILABLE, 'CLOSED', `calls to ${this.#address} are not made any more`);
    this.#calls++;
    clearTimeout(this.#idleTimer);
    try {
      return await upload(this.#connected(), method, messages, options);
    } finally {
      this.#calls--;
      if (this.#calls === 0 && !this.#closed)
        this.#idleTimer = setTimeout(() => this.#disconnect(), this.#idleMs).unref();
    }
  }

  /** Ends all calls now, as if the connection were lost. */
  close(): void {
    this.#closed = true;
    clearTimeout(this.#idleTimer);
    this.#disconnect();
  }

  #connected(): ClientConnection {
    if (this.#current?.open === true) return this.#current;
    const connection = new ClientConnection(this.#address, () => this.#connections.delete(connection));
    this.#connections.add(connection);
    this.#current = connection;
    return connection;
  }

  #disconnect(): void {
    this.#current = undefined;
    for (const connection of this.#connections) connection.destroy();
  }
}
