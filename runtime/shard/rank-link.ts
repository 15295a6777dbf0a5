// Rank 0's connection to one other rank: Join until the rank is up, Preflight, Load, then the Control stream for as long as the group lives.

import { Metadata, credentials, status } from '@grpc/grpc-js';
import type { Client, ClientDuplexStream, ClientReadableStream, ServiceError } from '@grpc/grpc-js';
import { LeaderMessage, RankMessage, ShardClient } from '../../gen/proto/internvl/shard/v1/shard.ts';
import type {
  JoinRequest,
  JoinResponse,
  LoadProgress,
  PreflightRequest,
  PreflightResponse,
} from '../../gen/proto/internvl/shard/v1/shard.ts';
import { clientChannelOptions } from '../../rpc/channel.ts';
import { parseDetails } from '../../rpc/status.ts';
import { StreamWriter } from '../../rpc/writer.ts';
import { HangWatch } from '../engine-thread/hang-watch.ts';
import type { StepDone } from '../engine-thread/messages.ts';
import { GroupLost, GroupMismatch } from './group-lost.ts';
import { HEARTBEAT_INTERVAL_MS } from './rank-thread.ts';

const MAX_MESSAGE_BYTES = 64 << 20; // a plan grows with the batch, far below this
const JOIN_DEADLINE_MS = 30_000;
/** Far above what a preflight takes; the links' own timeout ends one that hangs. */
const PREFLIGHT_DEADLINE_MS = 60_000;
const CONTROL_PATH = '/internvl.shard.v1.Shard/Control';

export interface RankLinkEvents {
  onReady(): void;
  onStepDone(done: StepDone): void;
  onLost(error: GroupLost): void;
  /** The rank says that it lost another one, which may be about to show by itself. */
  onSuspect(error: GroupLost): void;
}

/** A message for a rank; plans come encoded, once for all ranks. */
export type Outgoing = LeaderMessage | Uint8Array;

/** One other rank as rank 0 sees it. */
export class RankLink {
  readonly rank: number;
  readonly address: string;
  readonly #client: ShardClient;
  #control: Control | undefined;
  #load: ClientReadableStream<LoadProgress> | undefined;

  constructor(rank: number, address: string) {
    this.rank = rank;
    this.address = address;
    this.#client = new ShardClient(
      address,
      credentials.createInsecure(),
      clientChannelOptions({ maxMessageBytes: MAX_MESSAGE_BYTES, ownConnection: true }),
    );
  }

  /** One attempt to join; undefined when the rank is not up yet. Throws GroupMismatch or GroupLost. */
  join(request: JoinRequest): Promise<JoinResponse | undefined> {
    return new Promise((resolve, reject) => {
      this.#client.join(
        request,
        new Metadata(),
        { deadline: Date.now() + JOIN_DEADLINE_MS },
        (err, response) => {
          if (!err) resolve(response);
          else if (isNotUp(err)) resolve(undefined);
          else if (parseDetails(err).reason === 'GROUP_MISMATCH') {
            reject(new GroupMismatch(this.rank, err.details, { cause: err }));
          } else reject(new GroupLost(this.rank, `refused to join: ${err.details}`, { cause: err }));
        },
      );
    });
  }

  /** Has the rank measure its links; throws GroupLost. */
  preflight(request: PreflightRequest): Promise<PreflightResponse> {
    return new Promise((resolve, reject) => {
      this.#client.preflight(
        request,
        new Metadata(),
        { deadline: Date.now() + PREFLIGHT_DEADLINE_MS },
        (err, response) => {
          if (!err) resolve(response);
          else reject(new GroupLost(this.rank, `failed its preflight: ${err.details}`, { cause: err }));
        },
      );
    });
  }

  /** Has the rank load its weights; throws GroupLost. */
  load(groupEpoch: string): Promise<void> {
    const stream = this.#client.load({ groupEpoch });
    this.#load = stream;
    return new Promise((resolve, reject) => {
      let done = false;
      stream.on('data', (progress: LoadProgress) => (done ||= progress.done));
      stream.on('error', (err: ServiceError) =>
        reject(new GroupLost(this.rank, `failed to load: ${err.details}`, { cause: err })),
      );
      stream.on('end', () => {
        if (done) resolve();
        else reject(new GroupLost(this.rank, 'ended Load before it was done'));
      });
    });
  }

  /** Opens the Control stream. */
  open(hangTimeoutMs: number, events: RankLinkEvents): void {
    const call = (this.#client as Client).makeBidiStreamRequest<Outgoing, RankMessage>(
      CONTROL_PATH,
      encode,
      (bytes) => RankMessage.decode(bytes),
    );
    this.#control = new Control(this.rank, call, hangTimeoutMs, events);
  }

  send(message: Outgoing): void {
    this.#control?.send(message);
  }

  /** Counts a plan as sent: the rank owes a StepDone. */
  sendPlan(bytes: Uint8Array): void {
    this.#control?.sendPlan(bytes);
  }

  /** Since the rank sent anything on its Control stream; 0 before there is one. */
  silentMs(): number {
    return this.#control?.silentMs() ?? 0;
  }

  /** Leaves the rank; orderly tells it that the group ends as planned. */
  close(orderly: boolean): void {
    this.#load?.cancel();
    this.#control?.close(orderly);
    this.#client.close();
  }
}

function encode(message: Outgoing): Buffer {
  const bytes = message instanceof Uint8Array ? message : LeaderMessage.encode(message).finish();
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

// A rank of the previous group answers GROUP_EPOCH until it has left; the restarted one joins.
function isNotUp(err: ServiceError): boolean {
  return (
    err.code === status.UNAVAILABLE ||
    err.code === status.DEADLINE_EXCEEDED ||
    parseDetails(err).reason === 'GROUP_EPOCH'
  );
}

class Control {
  readonly #rank: number;
  readonly #writer: StreamWriter<Outgoing>;
  readonly #hangTimeoutMs: number;
  readonly #events: RankLinkEvents;
  readonly #silence = new HangWatch(2 * HEARTBEAT_INTERVAL_MS);
  readonly #standstill = new HangWatch(2 * HEARTBEAT_INTERVAL_MS);
  readonly #timer: NodeJS.Timeout;
  #received = 0;
  #receivedAt = performance.now();
  #progress = 0;
  #outstanding = 0; // plans without StepDone
  #stepsDone = 0;
  #closed = false;

  constructor(
    rank: number,
    call: ClientDuplexStream<Outgoing, RankMessage>,
    hangTimeoutMs: number,
    events: RankLinkEvents,
  ) {
    this.#rank = rank;
    this.#hangTimeoutMs = hangTimeoutMs;
    this.#events = events;
    this.#writer = new StreamWriter<Outgoing>(call, { byteLength: (message) => encode(message).length });
    this.#timer = setInterval(() => this.#beat(), HEARTBEAT_INTERVAL_MS);
    call.on('data', (message: RankMessage) => this.#receive(message));
    call.on('error', (err: ServiceError) => this.#lost(`its Control stream failed: ${err.details}`, err));
    call.on('end', () => this.#lost('its Control stream ended'));
  }

  silentMs(): number {
    return performance.now() - this.#receivedAt;
  }

  send(message: Outgoing): void {
    this.#writer.write(message);
  }

  sendPlan(bytes: Uint8Array): void {
    this.#outstanding += 1;
    this.#writer.write(bytes);
  }

  close(orderly: boolean): void {
    if (this.#closed) return;
    this.#stop();
    if (orderly) this.#writer.write({ message: { $case: 'shutdown', value: {} } });
    this.#writer.end();
  }

  #receive({ message }: RankMessage): void {
    this.#received += 1;
    this.#receivedAt = performance.now();
    switch (message?.$case) {
      case 'ready':
        this.#events.onReady();
        break;
      case 'stepDone':
        this.#outstanding -= 1;
        this.#stepsDone += 1;
        this.#events.onStepDone(message.value);
        break;
      case 'heartbeat':
        this.#progress = message.value.progress;
        break;
      case 'fatal': {
        const why = `${message.value.message} (${message.value.code})`;
        if (message.value.code !== 'collective_failed') this.#lost(why);
        else if (!this.#closed) {
          this.#stop();
          this.#events.onSuspect(new GroupLost(this.#rank, why));
        }
        break;
      }
      case undefined:
        break;
    }
  }

  #beat(): void {
    this.#writer.write({ message: { $case: 'heartbeat', value: { progress: 0 } } });
    const now = performance.now();
    const silentMs = this.#silence.observe(this.#received, true, now);
    const progress = this.#progress + this.#stepsDone;
    const stuckMs = this.#standstill.observe(progress, this.#outstanding > 0, now);
    if (silentMs >= this.#hangTimeoutMs) this.#lost(`sent no heartbeat for ${Math.round(silentMs)} ms`);
    else if (stuckMs >= this.#hangTimeoutMs) {
      this.#lost(`made no progress in a step for ${Math.round(stuckMs)} ms`);
    }
  }

  #lost(why: string, cause?: Error): void {
    if (this.#closed) return;
    this.#stop();
    this.#events.onLost(new GroupLost(this.#rank, why, cause === undefined ? undefined : { cause }));
  }
  #stop(): void {
    this.#closed = true;
    clearInterval(this.#timer);
  }
}
