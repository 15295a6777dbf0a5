// Leader election over one Lease. Whoever holds it renews it; others take it when its record has not changed for its duration, by their own
// monotonic clock, so differing wall clocks do no harm. The holder gives up (renewDeadline) well before others may take over (leaseDuration). Of those who wait,
// the one that has seen the last renewal first is the next: be it another pod, or the process that follows a killed holder in its own.
import type { ApiClient } from './api-client.ts';
import type { Clock } from './clock.ts';
import { sleep, SYSTEM_CLOCK } from './clock.ts';
import { asError, isAlreadyExists, isConflict, isNotFound } from './errors.ts';
import { makeKey } from './identity.ts';
import type { Log } from './log.ts';
import { LEASES } from './resources.ts';

export interface LeaseSpec {
  readonly holderIdentity?: string | null;
  readonly leaseDurationSeconds?: number | null;
  readonly acquireTime?: string | null;
  readonly renewTime?: string | null;
  readonly leaseTransitions?: number | null;
}

export interface Lease {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace: string; readonly resourceVersion?: string };
  readonly spec?: LeaseSpec;
}

export interface LeaderElectorOptions {
  readonly namespace: string;
  readonly name: string;
  /** Differs between processes, restarts of one pod included: `<pod>_<uuid>`. */
  readonly identity: string;
  readonly log: Log;
  readonly random: () => number;
  readonly clock?: Clock;
  /** After this without a renewal others may take the lease; whole seconds, default 15 s. */
  readonly leaseDurationMs?: number;
  /** After this without a renewal the holder gives up; default 10 s. */
  readonly renewDeadlineMs?: number;
  /** Between attempts, default 2 s; those who wait add up to 1.2 times of it. */
  readonly retryPeriodMs?: number;
  /** leader_election_master_status */
  readonly onLeading?: (leading: boolean) => void;
}

type LeaseClient = Pick<ApiClient, 'get' | 'create' | 'replace'>;

/** The lease was not renewed in time or is somebody else's: nothing may be written any more. */
export class LeadershipLostError extends Error {
  override readonly name = 'LeadershipLostError';
}

/** `stopped`: the signal was aborted, the lease was given back. `lost`: the process should end, with an error code. */
export type ElectionOutcome = 'stopped' | 'lost';

export class LeaderElector {
  readonly #client: LeaseClient;
  readonly #options: LeaderElectorOptions;
  readonly #clock: Clock;
  readonly #durationMs: number;
  readonly #deadlineMs: number;
  readonly #retryMs: number;
  /** As last read or written. */
  #lease: Lease | undefined;
  /** Monotonic time at which the record was first seen as it is. */
  #changedAt = 0;
  /** Monotonic time before the write that made or kept us leader was sent; undefined when we are not. */
  #renewedAt: number | undefined;

  constructor(client: LeaseClient, options: LeaderElectorOptions) {
    this.#client = client;
    this.#options = options;
    this.#clock = options.clock ?? SYSTEM_CLOCK;
    this.#durationMs = options.leaseDurationMs ?? 15_000;
    this.#deadlineMs = options.renewDeadlineMs ?? 10_000;
    this.#retryMs = options.retryPeriodMs ?? 2_000;
    if (
      this.#durationMs % 1000 !== 0 ||
      this.#deadlineMs >= this.#durationMs ||
      this.#retryMs >= this.#deadlineMs
    ) {
      throw new Error('a lease needs retryPeriod < renewDeadline < leaseDuration, the last in whole seconds');
    }
  }

  /** Whether we may write now. Computed from the clock, so it is right even before the timers of a process that was paused have fired. */
  get isLeader(): boolean {
    return this.#renewedAt !== undefined && this.#clock.monotonic() - this.#renewedAt < this.#deadlineMs;
  }

  /** Holder by the last record seen; undefined when nobody. */
  get holder(): string | undefined {
    return this.#lease?.spec?.holderIdentity || undefined;
  }

  /** Throws LeadershipLostError unless we may write: for `ApiClient.fenced`. */
  readonly check = (): void => {
    if (!this.isLeader)
      throw new LeadershipLostError(`${this.#options.identity} does not hold ${this.#name}`);
  };

  /**
   * Waits for the lease, then runs `lead` once. `leadership` is aborted when the lease is lost (before anybody else can take it) or `signal` is aborted;
   * after the latter the lease is kept until `lead` has settled and then given back. Rejects with what `lead` rejects with.
   */
  async run(
    signal: AbortSignal,
    lead: (leadership: AbortSignal) => Promise<unknown>,
  ): Promise<ElectionOutcome> {
    if (!(await this.#acquire(signal))) return 'stopped';
    const { log, identity, onLeading } = this.#options;
    log.info(`${identity} leads: holds ${this.#name}`);
    onLeading?.(true);
    const leadership = new AbortController();
    const lost = new AbortController();
    const finished = new AbortController();
    const stop = (): void => leadership.abort(signal.reason);
    if (signal.aborted) stop();
    signal.addEventListener('abort', stop, { once: true });
    lost.signal.addEventListener('abort', () => {
      log.error(`${identity} no longer leads: ${asError(lost.signal.reason).message}`);
      onLeading?.(false);
      leadership.abort(lost.signal.reason);
    });
    const renewing = this.#renew(lost, finished.signal);
    const leading = (async () => lead(leadership.signal))();
    try {
      // When the lease is lost nobody waits for `lead`: the process is about to end.
      await Promise.race([leading, aborted(lost.signal)]);
      if (!lost.signal.aborted) return await this.#release(finished, renewing, lost.signal);
      leading.catch((error: unknown) =>
        log.warn('stopped after the lease was lost', { error: asError(error).message }),
      );
      return 'lost';
    } catch (error) {
      leadership.abort(error);
      await this.#release(finished, renewing, lost.signal);
      throw error;
    } finally {
      signal.removeEventListener('abort', stop);
      finished.abort();
      await renewing;
    }
  }

  get #name(): string {
    return `lease ${makeKey(this.#options.namespace, this.#options.name)}`;
  }

  /** Tries until the lease is ours; false when the signal was aborted before. */
  async #acquire(signal: AbortSignal): Promise<boolean> {
    const { log, random } = this.#options;
    let told: string | undefined;
    while (!signal.aborted) {
      try {
        if (await this.#tryAcquire(signal)) return true;
        const holder = this.holder ?? 'nobody yet';
        if (holder !== told) log.info(`waiting for ${this.#name}, held by ${holder}`);
        told = holder;
      } catch (error) {
        if (signal.aborted) break;
        log.warn(`cannot acquire ${this.#name}`, { error: asError(error).message });
      }
      const pause = this.#retryMs * (1 + 1.2 * random());
      const left = this.#heldForMs;
      // Not an attempt later than it can be had: nobody acts meanwhile.
      await sleep(this.#clock, left > 0 ? Math.min(pause, left) : pause, signal);
    }
    return false;
  }

  async #tryAcquire(signal: AbortSignal): Promise<boolean> {
    const current = await this.#read(signal);
    if (this.#heldForMs > 0) return false;
    const sentAt = this.#clock.monotonic();
    try {
      await this.#take(current, signal);
    } catch (error) {
      if (isConflict(error) || isAlreadyExists(error)) return false; // lost the race
      throw error;
    }
    this.#renewedAt = sentAt;
    return this.isLeader; // an answer that came too late is no leadership
  }

  /** How long the lease, as last seen, is still somebody else's; 0 when it may be taken. */
  get #heldForMs(): number {
    const { holderIdentity, leaseDurationSeconds } = this.#lease?.spec ?? {};
    if (!holderIdentity || holderIdentity === this.#options.identity) return 0;
    const durationMs = (leaseDurationSeconds ?? 0) * 1000 || this.#durationMs;
    return Math.max(0, this.#changedAt + durationMs - this.#clock.monotonic());
  }

  async #take(current: Lease | undefined, signal: AbortSignal): Promise<void> {
    const { namespace, name, identity } = this.#options;
    const now = microTime(this.#clock.now());
    const before = current?.spec;
    const ours = before?.holderIdentity === identity;
    const spec: LeaseSpec = {
      ...before,
      holderIdentity: identity,
      leaseDurationSeconds: this.#durationMs / 1000,
      acquireTime: ours ? (before.acquireTime ?? now) : now,
      renewTime: now,
      leaseTransitions: (before?.leaseTransitions ?? 0) + (current === undefined || ours ? 0 : 1),
    };
    // Three attempts fit into the renew deadline, should they hang.
    const options = { signal, deadlineMs: this.#deadlineMs / 3 };
    if (current === undefined) {
      const { apiVersion, kind } = LEASES;
      const made = { apiVersion, kind, metadata: { namespace, name }, spec };
      this.#see(await this.#client.create<Lease>(LEASES, made, options));
    } else {
      this.#see(await this.#client.replace<Lease>(LEASES, { ...current, spec }, options));
    }
  }

  /** Keeps the lease; aborts `lost` when that failed for the renew deadline or another one holds it. Ends with `finished`. */
  async #renew(lost: AbortController, finished: AbortSignal): Promise<void> {
    const end = AbortSignal.any([finished, lost.signal]);
    const giveUp = (): void => {
      this.#renewedAt = undefined;
      lost.abort(new LeadershipLostError(`${this.#name} was not renewed for ${this.#deadlineMs / 1000} s`));
    };
    const arm = (): (() => void) =>
      this.#clock.after(this.#renewedAt! + this.#deadlineMs - this.#clock.monotonic(), giveUp);
    let disarm = arm();
    let sentAt = this.#clock.monotonic();
    try {
      for (;;) {
        // Counted from the last attempt: one that hung is followed by the next at once.
        await sleep(this.#clock, Math.max(0, sentAt + this.#retryMs - this.#clock.monotonic()), end);
        if (end.aborted) return;
        sentAt = this.#clock.monotonic();
        try {
          // Not ended by `finished`: a write whose answer is unknown would make the release fail.
          await this.#keep(lost.signal);
        } catch (error) {
          if (lost.signal.aborted) return;
          if (error instanceof LeadershipLostError) {
            this.#renewedAt = undefined;
            lost.abort(error);
            return;
          }
          this.#options.log.warn(`cannot renew ${this.#name}`, { error: asError(error).message });
          continue;
        }
        if (lost.signal.aborted) return;
        if (!this.isLeader) return giveUp(); // was paused: somebody else may have had it meanwhile
        this.#renewedAt = sentAt;
        disarm();
        disarm = arm();
      }
    } finally {
      disarm();
    }
  }

  /** One renewal. After a conflict the record is read again: the write before may have arrived although its answer did not. */
  async #keep(signal: AbortSignal): Promise<void> {
    try {
      await this.#take(this.#lease, signal);
    } catch (error) {
      if (!isConflict(error) && !isNotFound(error)) throw error;
      const current = await this.#read(signal);
      if (current !== undefined && current.spec?.holderIdentity !== this.#options.identity) {
        throw new LeadershipLostError(`${this.#name} is held by ${current.spec?.holderIdentity || 'nobody'}`);
      }
      await this.#take(current, signal);
    }
  }

  /** Gives the lease back so that the next one need not wait. Only while it is surely ours; a failure costs the others the duration, no more. */
  async #release(
    finished: AbortController,
    renewing: Promise<void>,
    lost: AbortSignal,
  ): Promise<ElectionOutcome> {
    finished.abort();
    await renewing;
    if (lost.aborted || !this.isLeader || this.#lease === undefined) return lost.aborted ? 'lost' : 'stopped';
    this.#renewedAt = undefined; // from here on nothing may be written, whatever becomes of the release
    this.#options.onLeading?.(false);
    const now = microTime(this.#clock.now());
    const spec: LeaseSpec = {
      ...this.#lease.spec,
      holderIdentity: '',
      leaseDurationSeconds: 1,
      acquireTime: now,
      renewTime: now,
    };
    try {
      this.#see(
        await this.#client.replace<Lease>(LEASES, { ...this.#lease, spec }, { deadlineMs: this.#retryMs }),
      );
    } catch (error) {
      this.#options.log.warn(`could not give ${this.#name} back`, { error: asError(error).message });
    }
    return 'stopped';
  }

  async #read(signal: AbortSignal): Promise<Lease | undefined> {
    const key = makeKey(this.#options.namespace, this.#options.name);
    try {
      const options = { signal, deadlineMs: this.#deadlineMs / 3 };
      return this.#see(await this.#client.get<Lease>(LEASES, key, options));
    } catch (error) {
      if (!isNotFound(error)) throw error;
      this.#lease = undefined;
      return undefined;
    }
  }

  #see(lease: Lease): Lease {
    const same = this.#lease !== undefined && JSON.stringify(this.#lease.spec) === JSON.stringify(lease.spec);
    if (!same) this.#changedAt = this.#clock.monotonic();
    this.#lease = lease;
    return lease;
  }
}

/** MicroTime: the API server refuses the three digits of a JavaScript date. */
export function microTime(ms: number): string {
  return new Date(ms).toISOString().replace('Z', '000Z');
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}
