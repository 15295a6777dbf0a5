// The replicas that a router knows, while they come and go.

import type { Logger } from '../rpc/log.ts';
import type { Endpoint } from './endpoints.ts';
import type { Replica } from './replica.ts';

/** More replicas than this are not connected to: each costs a connection, and every placement looks at all. */
export const MAX_REPLICAS = 256;

/** Opens a session to each endpoint that appears, and lets those that disappear finish what they have begun. */
export class ReplicaSet {
  readonly #make: (endpoint: Endpoint) => Replica;
  readonly #logger: Logger;
  /** By id. */
  #present = new Map<string, Replica>();
  /** Gone from the list, with attempts that have not ended. */
  readonly #retired = new Set<Replica>();
  #omitted = 0;

  /** `make` gives a replica that is not open yet. */
  constructor(make: (endpoint: Endpoint) => Replica, logger: Logger) {
    this.#make = make;
    this.#logger = logger;
  }

  /** In the order of the endpoints. */
  get present(): readonly Replica[] {
    return [...this.#present.values()];
  }

  get retired(): readonly Replica[] {
    return [...this.#retired];
  }

  /** Those present, and retired ones whose name none of them has: one replica for each name. */
  get named(): readonly Replica[] {
    const names = new Map<string, Replica>();
    for (const replica of [...this.#present.values(), ...this.#retired]) {
      if (!names.has(replica.name)) names.set(replica.name, replica);
    }
    return [...names.values()];
  }

  /** Takes over a complete list. */
  sync(endpoints: readonly Endpoint[]): void {
    const taken = endpoints.slice(0, MAX_REPLICAS);
    const omitted = endpoints.length - taken.length;
    if (omitted > 0 && omitted !== this.#omitted)
      this.#logger.warn('more replicas than a router connects to', { most: MAX_REPLICAS, omitted });
    this.#omitted = omitted;
    const before = this.#present;
    this.#present = new Map();
    const fresh: Replica[] = [];
    for (const endpoint of taken) {
      const known = before.get(endpoint.uid);
      // The same pod at another address is reached by another connection only.
      const same = known?.address === endpoint.address ? known : undefined;
      const replica = same ?? this.#make(endpoint);
      if (same === undefined) fresh.push(replica);
      this.#present.set(endpoint.uid, replica);
      replica.drain(endpoint.drain);
    }
    for (const replica of before.values()) {
      if (this.#present.get(replica.id) === replica) continue;
      this.#logger.info('replica gone', { replica: replica.name, attempts: replica.attempts });
      this.#retired.add(replica);
      replica.retire();
    }
    for (const replica of fresh) {
      this.#logger.info('replica found', { replica: replica.name, address: replica.address });
      replica.open();
    }
    this.sweep();
  }

  /** Closes retired replicas that have nothing left to do. */
  sweep(): void {
    for (const replica of this.#retired) {
      if (replica.attempts > 0) continue;
      this.#retired.delete(replica);
      replica.close();
    }
  }

  close(): void {
    for (const replica of [...this.#present.values(), ...this.#retired]) replica.close();
    this.#present.clear();
    this.#retired.clear();
  }
}
