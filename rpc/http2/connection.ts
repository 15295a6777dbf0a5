// A session on its socket. Whatever a turn of the event loop has to send on it leaves in one write.

import type { Socket } from 'node:net';
import type { Flushable, Flusher } from './flusher.ts';
import { ErrorCode } from './protocol.ts';
import type { Session } from './session.ts';

export interface ConnectionOptions {
  readonly flusher: Flusher;
  /** A peer that says nothing for so long is asked whether it is there, and has `keepaliveTimeoutMs` to answer. */
  readonly keepaliveMs: number;
  readonly keepaliveTimeoutMs: number;
  readonly onClosed: () => void;
}

/** For the peer to begin with HTTP/2, once it is connected. */
const GREETING_MS = 10_000;
/** For the peer to read the last frames and close; a socket that is closed with bytes unread takes those back. */
const LINGER_MS = 1_000;
/** What may wait to be sent, DATA left out, before nothing more is read from a peer that does not read. */
const MOST_UNSENT_BYTES = 64 * 1024;
const PING = Buffer.from('keepaliv', 'latin1');

export class Connection implements Flushable {
  readonly #socket: Socket;
  readonly #options: ConnectionOptions;
  readonly #session: Session;
  #flushPlanned = false;
  #blocked = false;
  #closing = false;
  #heard = true;
  #greeted = false;
  #timer: NodeJS.Timeout;
  /** Writes to the socket so far. */
  writes = 0;

  /** The socket may be a TLS one. */
  constructor(socket: Socket, session: Session, options: ConnectionOptions) {
    this.#socket = socket;
    this.#options = options;
    this.#session = session;
    session.onOutput = () => this.#outputDue();
    this.#outputDue();
    this.#timer = setTimeout(() => socket.destroy(), GREETING_MS).unref();
    socket.setNoDelay(true);
    socket.on('data', (chunk: Buffer) => this.received(chunk));
    socket.on('drain', () => this.#drained());
    socket.on('error', () => undefined); // 'close' follows
    socket.on('close', () => {
      clearTimeout(this.#timer);
      this.#closing = true;
      this.#session.lost();
      options.onClosed();
    });
  }

  get peer(): string {
    return `${this.#socket.remoteAddress ?? 'unknown'}:${this.#socket.remotePort ?? 0}`;
  }

  /** Closes now. */
  destroy(): void {
    this.#session.close(ErrorCode.NO_ERROR, 'stopped');
    this.flush();
    this.#socket.destroy();
  }

  flush(): void {
    this.#flushPlanned = false;
    if (this.#closing || this.#blocked) return;
    const { outbox } = this.#session;
    if (outbox.length > 0) {
      this.writes++;
      const taken = this.#socket.write(outbox.take());
      // Usually the kernel takes everything at once, and the buffer is free again.
      if (this.#socket.writableLength === 0) outbox.reuse();
      else {
        outbox.replace();
        if (!taken) {
          this.#blocked = true;
          this.#session.setBlocked(true);
        }
      }
      // What the outbox had no room for.
      if (!this.#blocked) this.#session.setBlocked(false);
    }
    if (this.#session.ending) this.#end();
  }

  /** Bytes came, which are not kept: for a socket that reads into memory of its owner's in the place of telling of 'data'. */
  received(chunk: Buffer): void {
    this.#heard = true;
    this.#session.receive(chunk);
    if (!this.#greeted && this.#session.greeted && !this.#closing) {
      this.#greeted = true;
      clearTimeout(this.#timer);
      this.#keepAlive();
    }
    if (this.#blocked && this.#session.outbox.length > MOST_UNSENT_BYTES) this.#socket.pause();
  }

  #outputDue(): void {
    if (this.#flushPlanned) return;
    this.#flushPlanned = true;
    this.#options.flusher.add(this);
  }

  #drained(): void {
    if (!this.#blocked) return;
    this.#blocked = false;
    this.#session.outbox.reuse(); // nothing is left with the socket when it says so
    this.#session.setBlocked(false);
    this.flush();
    if (!this.#blocked) this.#socket.resume();
  }

  #end(): void {
    this.#closing = true;
    clearTimeout(this.#timer);
    this.#socket.end();
    this.#socket.resume();
    this.#timer = setTimeout(() => this.#socket.destroy(), LINGER_MS).unref();
  }

  #keepAlive(): void {
    const { keepaliveMs, keepaliveTimeoutMs } = this.#options;
    this.#heard = false;
    this.#timer = setTimeout(() => {
      if (this.#heard) {
        this.#keepAlive();
        return;
      }
      this.#session.ping(PING);
      this.#timer = setTimeout(() => {
        if (this.#heard) this.#keepAlive();
        else this.#socket.destroy();
      }, keepaliveTimeoutMs).unref();
    }, keepaliveMs).unref();
  }
}
