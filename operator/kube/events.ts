// core/v1 Events, for people: `kubectl describe` shows them. Telling must not harm what is told of, so writes happen one at a time in the background,
// repetitions only count up, each object has a budget, and failures end in the log.
import type { ApiClient } from './api-client.ts';
import type { Clock } from './clock.ts';
import { SYSTEM_CLOCK } from './clock.ts';
import { asError, isNamespaceTerminating, isNotFound } from './errors.ts';
import { makeKey } from './identity.ts';
import type { Log } from './log.ts';
import { LruMap } from './lru.ts';
import { EVENTS } from './resources.ts';

/** What the event is about. */
export interface EventSubject {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace?: string; readonly uid?: string };
}

export interface EventRecorderOptions {
  /** Who tells: the controller's name. */
  readonly component: string;
  /** Which process: the pod's name. */
  readonly instance: string;
  readonly log: Log;
  readonly clock?: Clock;
  /** Events that are remembered to count repetitions; default 4096. */
  readonly remembered?: number;
  /** Events that wait to be written; default 256, more are dropped and counted in the log. */
  readonly mostPending?: number;
  /** Events an object may have at once; default 100: a day of rollouts and drains must not leave a failure untold. One more is allowed every `refillMs`, default 10 s. */
  readonly burst?: number;
  readonly refillMs?: number;
}

type EventClient = Pick<ApiClient, 'create' | 'mergePatch'>;

interface Told {
  readonly key: string;
  readonly subject: EventSubject;
  readonly type: 'Normal' | 'Warning';
  readonly reason: string;
  readonly message: string;
  readonly firstAt: number;
  lastAt: number;
  count: number;
  /** Name of the event object once it was made. */
  name: string | undefined;
  pending: boolean;
}

/** The API's limit on a message, in bytes. */
const LONGEST_MESSAGE_BYTES = 1024;

export class EventRecorder {
  readonly #client: EventClient;
  readonly #options: EventRecorderOptions;
  readonly #clock: Clock;
  readonly #told: LruMap<string, Told>;
  readonly #budgets: LruMap<string, { tokens: number; at: number }>;
  readonly #pending: Told[] = [];
  #writing: Promise<void> | undefined;
  #names = 0;
  #dropped = 0;

  constructor(client: EventClient, options: EventRecorderOptions) {
    this.#client = client;
    this.#options = options;
    this.#clock = options.clock ?? SYSTEM_CLOCK;
    this.#told = new LruMap(options.remembered ?? 4096);
    this.#budgets = new LruMap(options.remembered ?? 4096);
  }

  /** Events that were not written because of the bounds. */
  get dropped(): number {
    return this.#dropped;
  }

  /** Returns at once; never throws. */
  record(subject: EventSubject, type: 'Normal' | 'Warning', reason: string, message: string): void {
    const { kind, metadata } = subject;
    const text = truncate(message);
    const object = [kind, metadata.namespace ?? '', metadata.name, metadata.uid ?? ''].join('\0');
    const key = [object, type, reason, text].join('\0');
    const now = this.#clock.now();
    let told = this.#told.get(key);
    if (told?.pending) {
      told.count += 1;
      told.lastAt = now;
      return;
    }
    if (!this.#spend(object) || this.#pending.length >= (this.#options.mostPending ?? 256)) {
      this.#dropped += 1;
      this.#options.log.debug('event dropped: too many', {
        kind,
        name: metadata.name,
        reason,
        message: text,
      });
      return;
    }
    if (told === undefined) {
      told = {
        key,
        subject,
        type,
        reason,
        message: text,
        firstAt: now,
        lastAt: now,
        count: 1,
        name: undefined,
        pending: true,
      };
      this.#told.set(key, told);
    } else {
      told.count += 1;
      told.lastAt = now;
      told.pending = true;
    }
    this.#pending.push(told);
    this.#writing ??= this.#writeAll();
  }

  /** Resolves when nothing waits to be written any more. */
  async flush(): Promise<void> {
    while (this.#writing !== undefined) await this.#writing;
  }

  /** A token bucket for each object. */
  #spend(object: string): boolean {
    const burst = this.#options.burst ?? 100;
    const refillMs = this.#options.refillMs ?? 10_000;
    const at = this.#clock.monotonic();
    const budget = this.#budgets.get(object) ?? { tokens: burst, at };
    const tokens = Math.min(burst, budget.tokens + (at - budget.at) / refillMs);
    const allowed = tokens >= 1;
    this.#budgets.set(object, { tokens: allowed ? tokens - 1 : tokens, at });
    return allowed;
  }

  async #writeAll(): Promise<void> {
    for (let told = this.#pending.shift(); told !== undefined; told = this.#pending.shift()) {
      told.pending = false;
      try {
        await this.#write(told);
      } catch (error) {
        const { reason, message } = told;
        // `message` as a field would be joined to the log line's own.
        const fields = { reason, event: message, error: asError(error).message };
        // Nothing can be told in a namespace that is going away, and nobody is left to read it.
        if (isNamespaceTerminating(error)) this.#options.log.debug('could not write an event', fields);
        else this.#options.log.warn('could not write an event', fields);
      }
    }
    this.#writing = undefined;
  }

  async #write(told: Told): Promise<void> {
    const namespace = told.subject.metadata.namespace ?? 'default';
    if (told.name !== undefined) {
      const patch = { count: told.count, lastTimestamp: seconds(told.lastAt) };
      try {
        await this.#client.mergePatch(EVENTS, makeKey(namespace, told.name), patch);
        return;
      } catch (error) {
        if (!isNotFound(error)) throw error; // events live for an hour: then it is told anew
      }
    }
    const { apiVersion, kind, metadata } = told.subject;
    const { uid, namespace: of } = metadata;
    const involved = { apiVersion, kind, name: metadata.name, namespace: of, uid }; // undefined fields are not sent
    const { component, instance } = this.#options;
    this.#names += 1;
    // As long as the object's name allows; unique by the time and a number.
    const suffix = `${this.#clock.now().toString(16)}${this.#names.toString(16).padStart(4, '0')}`;
    const name = `${metadata.name.slice(0, 253 - suffix.length - 1)}.${suffix}`;
    await this.#client.create(EVENTS, {
      metadata: { name, namespace },
      involvedObject: involved,
      type: told.type,
      reason: told.reason,
      message: told.message,
      count: told.count,
      firstTimestamp: seconds(told.firstAt),
      lastTimestamp: seconds(told.lastAt),
      source: { component },
      reportingComponent: component,
      reportingInstance: instance,
    });
    told.name = name;
  }
}

function truncate(message: string): string {
  const bytes = Buffer.from(message);
  if (bytes.length <= LONGEST_MESSAGE_BYTES) return message;
  // A character that was cut in two becomes U+FFFD, which is taken away.
  return `${bytes
    .subarray(0, LONGEST_MESSAGE_BYTES - 3)
    .toString('utf8')
    .replace(/\uFFFD+$/, '')}…`;
}

/** metav1.Time has no fractions. */
function seconds(ms: number): string {
  return `${new Date(ms).toISOString().slice(0, 19)}Z`;
}
