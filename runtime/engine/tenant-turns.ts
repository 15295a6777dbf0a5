// Whose turn it is among tenants that wait: that of the one who was served least (a virtual token counter, as in "Fairness in Serving Large
// Language Models", OSDI 2024). A tenant that comes back starts level with those who wait, so that a rest earns no credit. Counters are kept only of
// tenants with something there. Used for the sequences of an engine and for the requests of a router. Pure; `now` is a time or a count of steps.

interface Tenant {
  /** Tokens, and what it was lifted by. */
  served: number;
  waiting: number;
  running: number;
  /** When something of it last started. */
  startedAt: number;
}

/** The first that waits of a tenant. */
export interface Turn {
  readonly tenant: string;
  /** When it began to wait. */
  readonly waitingSince: number;
  /** Tokens of the tenant that are as good as started. */
  readonly ahead?: number;
}

/** Counts what waits, runs and was served, by tenant. */
export class TenantTurns {
  readonly #patience: number;
  readonly #tenants = new Map<string, Tenant>();
  /** The one that had the last turn, also when it has left since. */
  #last: Pick<Tenant, 'served'> = { served: 0 };

  /** patience: a tenant that has waited so long for a turn has the next, whatever was served: tenants that always come anew cannot starve it. */
  constructor(patience: number) {
    this.#patience = patience;
  }

  /** Tenants with something that waits or runs. */
  get size(): number {
    return this.#tenants.size;
  }

  /** Something of the tenant begins to wait. */
  wait(name: string): void {
    let tenant = this.#tenants.get(name);
    if (tenant === undefined) {
      tenant = { served: 0, waiting: 0, running: 0, startedAt: -Infinity };
      this.#tenants.set(name, tenant);
    }
    if (tenant.waiting === 0) tenant.served = Math.max(tenant.served, this.#level());
    tenant.waiting += 1;
  }

  /** What waited runs; tokens: what its start costs. */
  start(name: string, tokens: number, now: number): void {
    const tenant = this.#of(name);
    tenant.waiting -= 1;
    tenant.running += 1;
    tenant.served += tokens;
    tenant.startedAt = now;
    this.#last = tenant;
  }

  /** What ran waits again. */
  putBack(name: string): void {
    this.wait(name);
    this.#of(name).running -= 1;
  }

  /** More was served to what runs. */
  serve(name: string, tokens: number): void {
    this.#of(name).served += tokens;
  }

  /** What waited or ran is gone. */
  leave(name: string, state: 'waiting' | 'running'): void {
    const tenant = this.#of(name);
    tenant[state] -= 1;
    if (tenant.waiting + tenant.running === 0) this.#tenants.delete(name);
  }

  /** Below 0 when a's turn comes before b's, 0 when nothing is in favour of either. */
  compare(a: Turn, b: Turn, now: number): number {
    const [first, second] = [this.#of(a.tenant), this.#of(b.tenant)];
    const waited = now - Math.max(a.waitingSince, first.startedAt);
    const otherWaited = now - Math.max(b.waitingSince, second.startedAt);
    if (Math.max(waited, otherWaited) >= this.#patience) return otherWaited - waited;
    return first.served + (a.ahead ?? 0) - second.served - (b.ahead ?? 0);
  }

  /** Where one that did not wait begins. */
  #level(): number {
    let least = Infinity;
    for (const { waiting, served } of this.#tenants.values()) {
      if (waiting > 0) least = Math.min(least, served);
    }
    return least === Infinity ? this.#last.served : least;
  }

  #of(name: string): Tenant {
    const tenant = this.#tenants.get(name);
    if (tenant === undefined) throw new Error('a tenant that has nothing there was named');
    return tenant;
  }
}
