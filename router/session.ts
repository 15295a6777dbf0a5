// One Session stream to one replica: connects, says hello, keeps it alive, notices when it is dead, and connects again. What the messages
// mean is the replica's business.

import { ClientStream } from '../rpc/grpc/client-stream.ts';
import {
  EngineService,
  type EngineMessage,
  type RouterMessage,
  type Submit,
} from '../gen/proto/internvl/engine/v1/engine.ts';

const PROTOCOL_MINOR = 0;
const GRACE_MS = 100;

type Stream = ClientStream<RouterMessage, EngineMessage>;

export interface SessionOptions {
  readonly routerId: string;
  /** HOST:PORT of the replica. */
  readonly address: string;
  readonly maxMessageBytes: number;
  /** A heartbeat goes out when nothing was sent for this long. */
  readonly heartbeatMs: number;
  /** The replica is lost when nothing came for this long. */
  readonly silenceMs: number;
  readonly firstReconnectMs: number;
  readonly mostReconnectMs: number;
  /** [0, 1), spreads reconnects. */
  readonly random: () => number;
}

export const DEFAULT_SESSION: Omit<SessionOptions, 'routerId' | 'address' | 'maxMessageBytes' | 'random'> = {
  heartbeatMs: 2_000,
  silenceMs: 4_500, // two heartbeats missed; a replica that hangs is promised to be noticed within 5 s
  firstReconnectMs: 100,
  mostReconnectMs: 1_000,
};

export interface SessionListener {
  /** Anything but a heartbeat. What it throws ends the session. */
  onMessage(message: NonNullable<EngineMessage['message']>): void;
  /** The stream ended: what was submitted on it is gone. Comes once a stream, also when it never stood. */
  onLost(reason: string): void;
}

/** Keeps one stream open until `close`. */
export class Session {
  readonly #options: SessionOptions;
  readonly #listener: SessionListener;
  #stream: Stream | undefined;
  #closed = false;
  #failures = 0;
  #retryTimer: NodeJS.Timeout | undefined;
  #heartbeatTimer: NodeJS.Timeout | undefined;
  #silenceTimer: NodeJS.Timeout | undefined;
  /** What is about to be sent: requests placed together travel in one message, and so do those taken back in one turn. */
  #submits: Submit[] = [];
  #aborts: number[] = [];
  #submitsPlanned = false;
  #abortsPlanned = false;
  /** Messages that have come. */
  #heard = 0;

  constructor(options: SessionOptions, listener: SessionListener) {
    this.#options = options;
    this.#listener = listener;
  }

  open(): void {
    if (this.#closed || this.#stream !== undefined) return;
    const stream: Stream = new ClientStream(
      this.#options.address,
      EngineService.session,
      this.#options.maxMessageBytes,
    );
    this.#stream = stream;
    stream.on('data', (message: EngineMessage) => this.#received(stream, message));
    stream.on('error', (error) => this.#lost(stream, error.message));
    stream.on('end', () => this.#lost(stream, 'the replica ended the session'));
    this.#send({
      $case: 'hello',
      value: { routerId: this.#options.routerId, protocolMinor: PROTOCOL_MINOR },
    });
    this.#heartbeatTimer = setInterval(
      () => this.#send({ $case: 'heartbeat', value: {} }),
      this.#options.heartbeatMs,
    );
    this.#silenceTimer = setTimeout(() => this.#silent(stream), this.#options.silenceMs);
  }

  submit(submission: Submit): void {
    this.#submits.push(submission);
    if (this.#submitsPlanned) return;
    this.#submitsPlanned = true;
    // Not in the next turn, which may first be busy with other streams' tokens: requests are placed together in one go.
    process.nextTick(() => {
      this.#submitsPlanned = false;
      this.#sendSubmits();
    });
  }

  abort(handle: number): void {
    // What has not left yet need not be taken back by the replica, but its sequence number is spent: it goes out, then its abort.
    this.#aborts.push(handle);
    if (this.#abortsPlanned) return;
    this.#abortsPlanned = true;
    setImmediate(() => {
      this.#abortsPlanned = false;
      this.#sendSubmits();
      this.#sendAborts();
    });
  }

  /** Ends this stream, as if the replica had, and connects again. */
  drop(reason: string): void {
    if (this.#stream !== undefined) this.#lost(this.#stream, reason);
  }

  /** Keeps the stream that stands and never opens another. */
  openNoMore(): void {
    this.#closed = true;
    clearTimeout(this.#retryTimer);
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#retryTimer);
    if (this.#stream !== undefined) this.#lost(this.#stream, 'the router closed the session');
  }

  #received(stream: Stream, { message }: EngineMessage): void {
    if (stream !== this.#stream) return;
    this.#heard++;
    this.#silenceTimer?.refresh();
    if (message === undefined || message.$case === 'heartbeat') return;
    if (message.$case === 'welcome') this.#failures = 0;
    try {
      this.#listener.onMessage(message);
    } catch (error) {
      this.#lost(
        stream,
        `a message could not be handled: ${error instanceof Error ? error.message : String(error)}`,
      );
    }
  }

  // Timers run before sockets are read: after a stall of this process, what came meanwhile has yet to be taken in.
  #silent(stream: Stream): void {
    const heard = this.#heard;
    setTimeout(() => {
      if (this.#heard === heard) this.#lost(stream, `nothing heard for ${this.#options.silenceMs} ms`);
    }, GRACE_MS);
  }

  #lost(stream: Stream, reason: string): void {
    if (stream !== this.#stream) return;
    this.#stream = undefined;
    clearInterval(this.#heartbeatTimer);
    clearTimeout(this.#silenceTimer);
    this.#submits = [];
    this.#aborts = [];
    stream.cancel();
    if (!this.#closed) {
      const backoff = Math.min(
        this.#options.mostReconnectMs,
        this.#options.firstReconnectMs * 2 ** this.#failures,
      );
      this.#failures = Math.min(this.#failures + 1, 16);
      this.#retryTimer = setTimeout(() => this.open(), backoff * (0.5 + this.#options.random() / 2));
    }
    this.#listener.onLost(reason);
  }

  #sendSubmits(): void {
    const submits = this.#submits;
    this.#submits = [];
    if (submits.length > 0) this.#send({ $case: 'submitBatch', value: { submits } });
  }

  #sendAborts(): void {
    const handles = this.#aborts;
    this.#aborts = [];
    if (handles.length > 0) this.#send({ $case: 'abort', value: { handles } });
  }

  // Unbounded buffering cannot happen here: submissions are bounded by credits, and a replica that reads nothing falls silent.
  #send(message: NonNullable<RouterMessage['message']>): void {
    if (this.#stream === undefined) return;
    this.#stream.write({ message });
    this.#heartbeatTimer?.refresh();
  }
}
