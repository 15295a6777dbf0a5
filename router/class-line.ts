// The requests of one priority class that wait: those that came back first; of the others tenants take turns, those of one tenant first come, first
// served.

import type { TenantTurns } from '../runtime/engine/tenant-turns.ts';
import type { Queueable } from './queue.ts';

/** One class of the queue. Adding and removing are O(1). */
export class ClassLine<T extends Queueable> {
  // Sets keep arrival order and remove in O(1).
  readonly #returned = new Set<T>();
  readonly #tenants = new Map<string, Set<T>>();
  readonly #turns: TenantTurns;
  /** What the last walk has yielded: a request that is removed and not among them was given up, not placed. */
  #offered = new Set<T>();
  #walkedAt = 0;

  /** turns: shared by the classes of a queue. */
  constructor(turns: TenantTurns) {
    this.#turns = turns;
  }

  push(item: T): void {
    const tenant = tenantOf(item);
    const fresh = this.#tenants.get(tenant);
    if (fresh === undefined) this.#tenants.set(tenant, new Set([item]));
    else fresh.add(item);
    this.#turns.wait(tenant);
  }

  /** One that had left, and has paid for its turn. */
  pushBack(item: T): void {
    this.#returned.add(item);
  }

  /** Whether it was there. */
  remove(item: T): boolean {
    if (this.#returned.delete(item)) return true;
    const tenant = tenantOf(item);
    const fresh = this.#tenants.get(tenant);
    if (fresh?.delete(item) !== true) return false;
    if (fresh.size === 0) this.#tenants.delete(tenant);
    const placed = this.#offered.delete(item);
    if (placed) this.#turns.start(tenant, costOf(item), this.#walkedAt);
    this.#turns.leave(tenant, placed ? 'running' : 'waiting');
    return true;
  }

  *[Symbol.iterator](): Generator<T> {
    yield* this.#returned;
    for (const fresh of this.#tenants.values()) yield* fresh;
  }

  walk(now: number): Walk<T> {
    const offered = new Set<T>();
    this.#offered = offered;
    this.#walkedAt = now;
    return new Walk(this.#returned, this.#tenants, this.#turns, offered, now);
  }
}

/** What comes next of a tenant. */
interface Head<T> {
  readonly tenant: string;
  readonly rest: Iterator<T>;
  item: T;
  waitingSince: number;
  ahead: number;
}

/** A class in order, with the next in sight. Do not add meanwhile; removing what was taken is fine. */
export class Walk<T extends Queueable> {
  readonly #returned: Head<T>[];
  readonly #fresh: Head<T>[];
  readonly #turns: TenantTurns;
  readonly #offered: Set<T>;
  readonly #now: number;

  constructor(
    returned: Iterable<T>,
    tenants: ReadonlyMap<string, Iterable<T>>,
    turns: TenantTurns,
    offered: Set<T>,
    now: number,
  ) {
    this.#returned = headsOf('', returned);
    this.#fresh = [...tenants].flatMap(([tenant, items]) => headsOf(tenant, items));
    this.#turns = turns;
    this.#offered = offered;
    this.#now = now;
  }

  /** The one that has waited longest; undefined at the end. */
  get oldest(): T | undefined {
    let oldest: T | undefined;
    for (const { item } of [...this.#returned, ...this.#fresh]) {
      if (oldest === undefined || item.enqueuedAt < oldest.enqueuedAt) oldest = item;
    }
    return oldest;
  }

  /** The one whose turn it is; undefined at the end. */
  take(): T | undefined {
    const [returned] = this.#returned;
    if (returned !== undefined) return this.#advance(this.#returned, returned);
    const [first, ...others] = this.#fresh;
    if (first === undefined) return undefined;
    let next = first;
    for (const head of others) if (this.#compare(head, next) < 0) next = head;
    this.#offered.add(next.item);
    next.ahead += costOf(next.item);
    const taken = this.#advance(this.#fresh, next);
    next.waitingSince = this.#now; // its tenant has just had a turn
    return taken;
  }

  #advance(heads: Head<T>[], head: Head<T>): T {
    const taken = head.item;
    const next = head.rest.next();
    if (next.done === true) heads.splice(heads.indexOf(head), 1);
    else head.item = next.value;
    return taken;
  }

  #compare(a: Head<T>, b: Head<T>): number {
    const turn = this.#turns.compare(a, b, this.#now);
    return turn === 0 ? a.item.enqueuedAt - b.item.enqueuedAt : turn;
  }
}

function headsOf<T extends Queueable>(tenant: string, items: Iterable<T>): Head<T>[] {
  const rest = items[Symbol.iterator]();
  const first = rest.next();
  if (first.done === true) return [];
  const { waitingSince } = first.value;
  return [{ tenant, rest, item: first.value, waitingSince, ahead: 0 }];
}

function tenantOf({ work }: Queueable): string {
  return work?.cacheSalt ?? '';
}

function costOf({ workTokens }: Queueable): number {
  return workTokens ?? 1;
}
