// Keeps a store equal to a set of objects in the API server: one list, then watches that go on where the last one ended. One loop, no callbacks from
// sockets, so a list and a watch never overlap and events keep their order. Only a version that the server no longer knows makes it list again.
import type { ApiClient } from './api-client.ts';
import type { ListPage } from './call-options.ts';
import type { Clock } from './clock.ts';
import { sleep, SYSTEM_CLOCK } from './clock.ts';
import { ApiError, asError, isGone, TransportError } from './errors.ts';
import type { Identified } from './identity.ts';
import type { Log } from './log.ts';
import type { Resource } from './object.ts';
import { Backoff } from './rate-limit.ts';
import type { Change, Store } from './store.ts';
import type { WatchEvent } from './watch.ts';

/** Told as it happens: counters of lists and watches by how they ended. */
export interface ReflectorObserver {
  listed?(outcome: 'ok' | 'error', objects: number, seconds: number): void;
  /** `short`: ended at once with nothing new. `gone`: the version was too old. `malformed`: something that is no event. */
  watched?(outcome: 'ended' | 'short' | 'gone' | 'malformed' | 'error'): void;
}

export interface ReflectorOptions<T extends Identified> {
  readonly store: Store<T>;
  /** Absent: all namespaces. */
  readonly namespace?: string | undefined;
  readonly labelSelector?: string | undefined;
  readonly fieldSelector?: string | undefined;
  /** After the store has taken the change in. Must not throw and must not block: it names keys to handle. */
  readonly onChange: (change: Change<T>) => void;
  /** Called once, when the first list is in the store and told. */
  readonly onSynced?: () => void;
  readonly log: Log;
  readonly random: () => number;
  readonly clock?: Clock;
  readonly observer?: ReflectorObserver;
  /** Bounds of the server's end of a watch, in seconds; default 300 and 600. */
  readonly watchSeconds?: readonly [number, number];
  /** Silence after which a watch is given up, beyond the server's end of it; default 10 s. */
  readonly inactivityMs?: number;
  /** Objects per page of a list; default 100. */
  readonly pageLimit?: number;
}

type WatchClient = Pick<ApiClient, 'list' | 'watch'>;

/** A page is parsed whole before most of it is dropped again. */
const PAGE_LIMIT = 100;
const FIRST_RETRY_MS = 800;
const LONGEST_RETRY_MS = 30_000;
/** What a server may ask us to wait, at most. */
const LONGEST_ASKED_MS = 60_000;
/** A watch that ended before this and brought nothing counts as a failure, else a server that closes at once is asked without pause. */
const SHORT_WATCH_MS = 1_000;
/** A watch that lived this long shows that the server is well again. */
const STABLE_WATCH_MS = 120_000;

export class Reflector<T extends Identified> {
  readonly #client: WatchClient;
  readonly #resource: Resource;
  readonly #options: ReflectorOptions<T>;
  readonly #store: Store<T>;
  readonly #clock: Clock;
  readonly #backoff: Backoff;
  /** Where the next watch begins; undefined when a list is needed. */
  #version: string | undefined;
  #hasSynced = false;
  #lastContact: number | undefined;
  #lastContactWall: number | undefined;

  constructor(client: WatchClient, resource: Resource, options: ReflectorOptions<T>) {
    this.#client = client;
    this.#resource = resource;
    this.#options = options;
    this.#store = options.store;
    this.#clock = options.clock ?? SYSTEM_CLOCK;
    const { random } = options;
    this.#backoff = new Backoff({ firstMs: FIRST_RETRY_MS, longestMs: LONGEST_RETRY_MS, random });
  }

  get resource(): Resource {
    return this.#resource;
  }

  /** Whether the store has once been complete; it stays so while watches fail (the store is then old, not empty). */
  get hasSynced(): boolean {
    return this.#hasSynced;
  }

  /** Wall-clock ms of the last good answer or event; undefined before the first. */
  get lastContact(): number | undefined {
    return this.#lastContactWall;
  }

  /** Ms since the last good answer or event, whatever was done to the wall clock; undefined before the first. */
  get silentMs(): number | undefined {
    return this.#lastContact === undefined ? undefined : this.#clock.monotonic() - this.#lastContact;
  }

  /** Runs until the signal is aborted; never rejects. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        if (this.#version === undefined) await this.#list(signal);
        else await this.#watch(this.#version, signal);
      } catch (error) {
        if (signal.aborted) return;
        await this.#recover(asError(error), signal);
      }
    }
  }

  async #list(signal: AbortSignal): Promise<void> {
    const started = this.#clock.monotonic();
    const elapsed = (): number => (this.#clock.monotonic() - started) / 1000;
    try {
      const { items, resourceVersion } = await this.#listPages(signal);
      this.#options.observer?.listed?.('ok', items.length, elapsed());
      const changes = this.#store.replace(items, resourceVersion);
      this.#version = resourceVersion;
      for (const change of changes) this.#tell(change);
      if (this.#hasSynced) return;
      this.#hasSynced = true;
      this.#options.onSynced?.();
    } catch (error) {
      this.#options.observer?.listed?.('error', 0, elapsed());
      throw error;
    }
  }

  /**
   * The newest state, in pages. Asked for "any version" (resourceVersion=0) a server answers from memory and ignores the limit: all at once, of which a
   * process of little memory keeps the traces.
   */
  async #listPages(signal: AbortSignal): Promise<{ items: T[]; resourceVersion: string }> {
    const { namespace, labelSelector, fieldSelector, pageLimit } = this.#options;
    const items: T[] = [];
    let page: ListPage<T> | undefined;
    do {
      const next = page?.metadata.continue;
      page = await this.#client.list<T>(this.#resource, {
        namespace,
        labelSelector,
        fieldSelector,
        limit: pageLimit ?? PAGE_LIMIT,
        ...(next && { continue: next }),
        signal,
      });
      this.#contact();
      for (const item of page.items) items.push(slim(item));
    } while (page.metadata.continue);
    const { resourceVersion } = page.metadata;
    if (!resourceVersion) {
      throw new TransportError('Malformed', `the list of ${this.#resource.plural} has no resourceVersion`);
    }
    return { items, resourceVersion };
  }

  async #watch(from: string, signal: AbortSignal): Promise<void> {
    const { namespace, labelSelector, fieldSelector, random, watchSeconds, inactivityMs, observer } =
      this.#options;
    const [least, most] = watchSeconds ?? [300, 600];
    const timeoutSeconds = Math.round(least + (most - least) * random());
    const started = this.#clock.monotonic();
    const lived = (): number => this.#clock.monotonic() - started;
    let brought = false;
    try {
      const events = this.#client.watch<T>(this.#resource, {
        namespace,
        labelSelector,
        fieldSelector,
        resourceVersion: from,
        timeoutSeconds,
        inactivityMs: timeoutSeconds * 1000 + (inactivityMs ?? 10_000),
        signal,
      });
      for await (const event of events) {
        this.#contact();
        if (this.#take(event)) brought = true;
      }
      this.#contact();
    } catch (error) {
      if (lived() >= STABLE_WATCH_MS) this.#backoff.reset();
      throw error;
    }
    if (lived() >= STABLE_WATCH_MS) this.#backoff.reset();
    const short = !brought && lived() < SHORT_WATCH_MS;
    observer?.watched?.(short ? 'short' : 'ended');
    if (short && !signal.aborted) await sleep(this.#clock, this.#backoff.next(), signal);
  }

  /** Whether the event was news: a server that repeats itself and closes must not be asked without pause. */
  #take(event: WatchEvent<T>): boolean {
    const version = event.object.metadata?.resourceVersion;
    const change =
      event.type === 'BOOKMARK'
        ? undefined
        : event.type === 'DELETED'
          ? this.#store.remove(slim(event.object))
          : this.#store.set(slim(event.object));
    if (version) {
      this.#version = version;
      this.#store.advance(version);
    }
    if (change !== undefined) this.#tell(change);
    return change !== undefined;
  }

  async #recover(error: Error, signal: AbortSignal): Promise<void> {
    const { observer, log } = this.#options;
    const watching = this.#version !== undefined;
    const fields = { resource: this.#resource.plural, error: error.message };
    if (isGone(error)) {
      if (watching) observer?.watched?.('gone');
      this.#version = undefined;
      log.info(`${this.#resource.plural}: the version is no longer known, listing again`, fields);
      if (watching) return; // at once; a list that expires between its pages waits below
    } else if (watching) {
      const malformed = error instanceof TransportError && error.code === 'Malformed';
      observer?.watched?.(malformed ? 'malformed' : 'error');
    }
    const asked = error instanceof ApiError ? (error.retryAfterMs ?? 0) : 0;
    const waitMs = Math.max(this.#backoff.next(), Math.min(asked, LONGEST_ASKED_MS));
    log.warn(
      `${this.#resource.plural}: ${watching ? 'watch' : 'list'} failed, next try in ${Math.round(waitMs)} ms`,
      fields,
    );
    await sleep(this.#clock, waitMs, signal);
  }

  #tell(change: Change<T>): void {
    try {
      this.#options.onChange(change);
    } catch (error) {
      // A fault of the receiver; the cache itself must go on.
      this.#options.log.error(`${this.#resource.plural}: the receiver of changes threw`, {
        error: asError(error).stack,
      });
    }
  }

  #contact(): void {
    this.#lastContact = this.#clock.monotonic();
    this.#lastContactWall = this.#clock.now();
  }
}

const LAST_APPLIED = 'kubectl.kubernetes.io/last-applied-configuration';

/**
 * Without what is large and read by nobody here: managedFields and kubectl's copy of what was applied. A copy: an object that has lost a property takes a
 * third more memory than one that never had it (measured, V8 13.6).
 */
function slim<T extends Identified>(object: T): T {
  if (object.metadata === undefined) return object;
  const { managedFields: _, annotations, ...metadata } = object.metadata as Metadata;
  if (annotations === undefined) return { ...object, metadata };
  const { [LAST_APPLIED]: __, ...kept } = annotations;
  return { ...object, metadata: { ...metadata, annotations: kept } };
}

interface Metadata {
  readonly managedFields?: unknown;
  readonly annotations?: Readonly<Record<string, string>>;
}
