// What the sessions of a replica share: the engine, the pictures, the credits, and whether it takes anything at all.

import { status } from '@grpc/grpc-js';
import { RpcError } from '../../rpc/status.ts';
import type { RuntimeMetrics } from '../metrics.ts';
import { QUEUE_LENGTH, creditsPerSession, hardLimit } from './credits.ts';
import type { Dispatcher } from './dispatcher.ts';
import { ParkingLot } from './parked.ts';
import type { Pictures } from './pictures.ts';
import type { Replica } from './replica.ts';
import type { Session } from './session.ts';

export interface SessionHubOptions {
  readonly replica: Replica;
  readonly dispatcher: Dispatcher;
  readonly pictures: Pictures;
  readonly metrics: RuntimeMetrics;
  /** Sessions at once at most. */
  readonly maxSessions?: number;
}

const MAX_SESSIONS = 64;

/** The sessions of one replica. */
export class SessionHub {
  readonly replica: Replica;
  readonly dispatcher: Dispatcher;
  readonly pictures: Pictures;
  readonly parking = new ParkingLot();
  readonly #metrics: RuntimeMetrics;
  readonly #maxSessions: number;
  readonly #capacity: number;
  readonly #sessions = new Set<Session>();
  #draining = false;

  constructor({ replica, dispatcher, pictures, metrics, maxSessions = MAX_SESSIONS }: SessionHubOptions) {
    this.replica = replica;
    this.dispatcher = dispatcher;
    this.pictures = pictures;
    this.#metrics = metrics;
    this.#maxSessions = maxSessions;
    this.#capacity = replica.info.maxSequences + QUEUE_LENGTH;
  }

  get draining(): boolean {
    return this.#draining;
  }

  /** Throws RpcError when the replica is lost or has too many sessions. */
  checkOpen(): void {
    if (this.dispatcher.lost) {
      throw new RpcError(
        status.UNAVAILABLE,
        'REPLICA_FAILED',
        `the replica failed: ${this.dispatcher.lost.message}`,
      );
    }
    if (this.#sessions.size >= this.#maxSessions) {
      throw new RpcError(
        status.RESOURCE_EXHAUSTED,
        'TOO_MANY_SESSIONS',
        `${this.#maxSessions} sessions are open already`,
      );
    }
  }

  join(session: Session): void {
    this.#sessions.add(session);
    this.dispatcher.connect(session);
    this.#sharesChanged(session);
  }

  leave(session: Session): void {
    if (!this.#sessions.delete(session)) return;
    this.dispatcher.disconnect(session);
    this.#sharesChanged(session);
  }

  /** Credits to tell a session now. */
  creditsOf(session: Session): number {
    if (this.#draining || !this.#sessions.has(session)) return 0;
    const held = this.dispatcher.numLive + this.parking.numParked;
    return creditsPerSession({ capacity: this.#capacity, held, sessions: this.#sessions.size });
  }

  /** Why no submission is taken now, undefined when they are. admitted: submissions about to be dispatched. */
  refusal(admitted = 0): RpcError | undefined {
    if (this.#draining) {
      return new RpcError(status.UNAVAILABLE, 'DRAINING', 'the replica is draining: submit elsewhere');
    }
    const held = this.dispatcher.numLive + this.parking.numParked + admitted;
    if (held < hardLimit(this.#capacity)) return undefined;
    return new RpcError(
      status.RESOURCE_EXHAUSTED,
      'OVERLOADED',
      `${held} submissions are held, ${this.#capacity} fit: submit against credits`,
    );
  }

  rejected(): void {
    this.#metrics.finished('rejected');
  }

  /** Starts or undoes draining and tells every router. */
  setDraining(draining: boolean): void {
    if (draining === this.#draining) return;
    this.#draining = draining;
    for (const session of this.#sessions) {
      session.drainChanged(!draining);
      session.loadChanged();
    }
  }

  /** Ends every session, after everything written to it. */
  closeAll(): void {
    for (const session of this.#sessions) session.close();
  }

  #sharesChanged(cause: Session): void {
    for (const session of this.#sessions) if (session !== cause) session.loadChanged();
  }
}
