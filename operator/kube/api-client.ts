// Calls to the API server. Objects go out and come back as they are: no model in between that could drop a field it does not know.
import type { IncomingMessage } from 'node:http';
import type { KubeConfig } from '@kubernetes/client-node';
import type {
  ApplyOptions,
  CallOptions,
  ListMetadata,
  ListOptions,
  ListPage,
  RemoveOptions,
  Verb,
  WatchOptions,
  WriteOptions,
} from './call-options.ts';
import type { Clock } from './clock.ts';
import { sleep, SYSTEM_CLOCK } from './clock.ts';
import { APPLY_CONTENT_TYPE, Connection } from './connection.ts';
import type { Status } from './errors.ts';
import { ApiError, TransportError } from './errors.ts';
import type { Identified } from './identity.ts';
import { splitKey } from './identity.ts';
import type { Key, Resource } from './object.ts';
import type { Query } from './resource-path.ts';
import { queryString, resourcePath } from './resource-path.ts';
import type { WatchEvent } from './watch.ts';
import { watchEvents } from './watch.ts';

export type { ListOptions, ListPage, Verb, WatchOptions } from './call-options.ts';

export interface ApiClientOptions {
  readonly userAgent: string;
  /** After every answer (code 0: there was none); for a watch, when it has begun. rest_client_requests_total and …_duration_seconds. */
  readonly onRequest?: (verb: Verb, resource: Resource, code: number, seconds: number) => void;
  /** Deadline of a call, retries after 429 included; default 30 s. */
  readonly deadlineMs?: number;
  /** Bodies above are not sent; default 3 MiB, the API server's own limit. */
  readonly maxRequestBytes?: number;
  /** Answers above are given up; default 128 MiB. */
  readonly maxResponseBytes?: number;
  readonly clock?: Clock;
}

const DEADLINE_MS = 30_000;
const MAX_REQUEST_BYTES = 3 << 20;
const MAX_RESPONSE_BYTES = 128 << 20;
const MOST_RETRIES = 3;

interface Call {
  readonly verb: Verb;
  readonly method: string;
  readonly resource: Resource;
  readonly path: string;
  readonly body?: object;
  readonly contentType?: string;
  readonly options: CallOptions;
}

/** Typed by what the caller expects back: the server decides what an object is, nothing here checks it. */
export class ApiClient {
  readonly #connection: Connection;
  readonly #options: ApiClientOptions;
  readonly #clock: Clock;
  readonly #fence: (() => void) | undefined;

  private constructor(connection: Connection, options: ApiClientOptions, fence?: () => void) {
    this.#connection = connection;
    this.#options = options;
    this.#clock = options.clock ?? SYSTEM_CLOCK;
    this.#fence = fence;
  }

  static fromKubeConfig(config: KubeConfig, options: ApiClientOptions): ApiClient {
    return new ApiClient(new Connection(config, options.userAgent), options);
  }

  /** The same client, but `check` is called before every write (each retry too) and what it throws ends the call: no write without leadership. */
  fenced(check: () => void): ApiClient {
    return new ApiClient(this.#connection, this.#options, check);
  }

  get server(): string {
    return this.#connection.server;
  }

  get<T>(resource: Resource, key: Key, options: CallOptions & { subresource?: string } = {}): Promise<T> {
    const path = resourcePath(resource, { ...splitKey(key), subresource: options.subresource });
    return this.#call<T>({ verb: 'GET', method: 'GET', resource, path, options });
  }

  async list<T>(resource: Resource, options: ListOptions = {}): Promise<ListPage<T>> {
    const { namespace, labelSelector, fieldSelector, limit, resourceVersion } = options;
    const query = { labelSelector, fieldSelector, limit, continue: options.continue, resourceVersion };
    const path = resourcePath(resource, { namespace }) + queryString(query);
    const page = await this.#call<{ items?: unknown; metadata?: ListMetadata }>({
      verb: 'LIST',
      method: 'GET',
      resource,
      path,
      options,
    });
    if (page.items !== null && page.items !== undefined && !Array.isArray(page.items)) {
      throw new TransportError('Malformed', `LIST ${path}: items is not a list`);
    }
    const { apiVersion, kind } = resource;
    const items = ((page.items ?? []) as object[]).map((item) => ({ apiVersion, kind, ...item }) as T);
    return { items, metadata: page.metadata ?? {} };
  }

  create<T extends Identified>(resource: Resource, object: T, options: WriteOptions = {}): Promise<T> {
    const path = resourcePath(resource, { namespace: object.metadata?.namespace });
    return this.#write<T>('CREATE', 'POST', resource, path, named(resource, object), JSON_CONTENT, options);
  }

  /** Server-side apply: `object` is the whole intent of this field manager. */
  apply<T extends Identified>(resource: Resource, object: T, options: ApplyOptions): Promise<T> {
    const path = this.#pathOf(resource, object, options.subresource);
    const body = named(resource, object);
    return this.#write<T>('APPLY', 'PATCH', resource, path, body, APPLY_CONTENT_TYPE, options, {
      force: options.force,
    });
  }

  /** RFC 7386: null takes a field away, lists are replaced whole. */
  mergePatch<T>(resource: Resource, key: Key, patch: object, options: WriteOptions = {}): Promise<T> {
    const path = resourcePath(resource, { ...splitKey(key), subresource: options.subresource });
    return this.#write<T>('PATCH', 'PATCH', resource, path, patch, 'application/merge-patch+json', options);
  }

  /** Lists with a merge key (conditions by type) are merged; for built-in kinds only. */
  strategicMergePatch<T>(
    resource: Resource,
    key: Key,
    patch: object,
    options: WriteOptions = {},
  ): Promise<T> {
    const path = resourcePath(resource, { ...splitKey(key), subresource: options.subresource });
    const contentType = 'application/strategic-merge-patch+json';
    return this.#write<T>('PATCH', 'PATCH', resource, path, patch, contentType, options);
  }

  /** With a resourceVersion in `object`, 409 when it is not the newest. */
  replace<T extends Identified>(resource: Resource, object: T, options: WriteOptions = {}): Promise<T> {
    const path = this.#pathOf(resource, object, options.subresource);
    return this.#write<T>('UPDATE', 'PUT', resource, path, named(resource, object), JSON_CONTENT, options);
  }

  /** What the server answers: the object while it is being deleted, or a Status. 404 is an ApiError like any other. */
  remove(resource: Resource, key: Key, options: RemoveOptions = {}): Promise<Identified> {
    const { uid, resourceVersion, gracePeriodSeconds, propagationPolicy, dryRun } = options;
    const body = {
      apiVersion: 'v1',
      kind: 'DeleteOptions',
      ...(gracePeriodSeconds === undefined ? {} : { gracePeriodSeconds }),
      ...(propagationPolicy === undefined ? {} : { propagationPolicy }),
      ...(uid === undefined && resourceVersion === undefined
        ? {}
        : { preconditions: { uid, resourceVersion } }),
      ...(dryRun === true ? { dryRun: ['All'] } : {}),
    };
    const path = resourcePath(resource, splitKey(key));
    return this.#call({
      verb: 'DELETE',
      method: 'DELETE',
      resource,
      path,
      body,
      contentType: JSON_CONTENT,
      options,
    });
  }

  /**
   * Events from `resourceVersion` on, bookmarks included. No deadline once it has begun, but an inactivity timer; leaving the loop closes the socket.
   * Throws ApiError and TransportError.
   */
  async *watch<T extends Identified>(
    resource: Resource,
    options: WatchOptions,
  ): AsyncGenerator<WatchEvent<T>, void, undefined> {
    const { namespace, labelSelector, fieldSelector, resourceVersion, timeoutSeconds } = options;
    const query = { labelSelector, fieldSelector, resourceVersion, timeoutSeconds };
    const path =
      resourcePath(resource, { namespace }) +
      queryString({ watch: true, allowWatchBookmarks: true, ...query });
    const what = `WATCH ${path}`;
    const end = new AbortController();
    const deadlineMs = this.#options.deadlineMs ?? DEADLINE_MS;
    const unlink = linkSignal(options.signal, end, what);
    const cancel = this.#clock.after(deadlineMs, () => end.abort(tooLate(what, deadlineMs)));
    const started = this.#clock.monotonic();
    let code = 0;
    try {
      const response = await this.#connection.send({
        method: 'GET',
        path,
        headers: {},
        body: undefined,
        pool: 'watches',
        signal: end.signal,
      });
      code = response.statusCode ?? 0;
      if (code !== 200) throw await this.#refusal(what, response, end.signal);
      cancel();
      this.#told('WATCH', resource, code, started);
      yield* watchEvents<T>({
        what,
        response,
        inactivityMs: options.inactivityMs ?? timeoutSeconds * 1000 + 10_000,
        clock: this.#clock,
        signal: end.signal,
      });
    } catch (error) {
      if (code !== 200) this.#told('WATCH', resource, code, started);
      throw error;
    } finally {
      cancel();
      unlink();
    }
  }

  /** Lets idle sockets go; for the end of the process. */
  close(): void {
    this.#connection.close();
  }

  #pathOf(resource: Resource, object: Identified, subresource: string | undefined): string {
    const name = object.metadata?.name;
    if (!name) throw new Error(`a ${resource.kind} without metadata.name cannot be written`);
    return resourcePath(resource, { namespace: object.metadata?.namespace, name, subresource });
  }

  #write<T>(
    verb: Verb,
    method: string,
    resource: Resource,
    path: string,
    body: object,
    contentType: string,
    options: WriteOptions,
    query: Query = {},
  ): Promise<T> {
    const { fieldManager, dryRun } = options;
    const all = queryString({ ...query, fieldManager, dryRun: dryRun === true ? 'All' : undefined });
    return this.#call<T>({ verb, method, resource, path: path + all, body, contentType, options });
  }

  async #call<T>(call: Call): Promise<T> {
    const what = `${call.verb} ${call.path}`;
    const body = call.body === undefined ? undefined : Buffer.from(JSON.stringify(call.body));
    const maxRequestBytes = this.#options.maxRequestBytes ?? MAX_REQUEST_BYTES;
    if (body !== undefined && body.length > maxRequestBytes) {
      throw new TransportError(
        'RequestTooLarge',
        `${what}: ${body.length} bytes, at most ${maxRequestBytes}`,
      );
    }
    const deadlineMs = call.options.deadlineMs ?? this.#options.deadlineMs ?? DEADLINE_MS;
    const due = this.#clock.monotonic() + deadlineMs;
    const end = new AbortController();
    const unlink = linkSignal(call.options.signal, end, what);
    const cancel = this.#clock.after(deadlineMs, () => end.abort(tooLate(what, deadlineMs)));
    try {
      for (let attempt = 0; ; attempt += 1) {
        try {
          return await this.#once<T>(call, what, body, end.signal);
        } catch (error) {
          const waitMs = error instanceof ApiError && error.status === 429 ? error.retryAfterMs : undefined;
          // A wait that outlasts the deadline is the caller's to plan.
          if (waitMs === undefined || attempt >= MOST_RETRIES || this.#clock.monotonic() + waitMs >= due)
            throw error;
          await sleep(this.#clock, waitMs, end.signal);
          if (end.signal.aborted) throw error;
        }
      }
    } finally {
      cancel();
      unlink();
    }
  }

  async #once<T>(call: Call, what: string, body: Buffer | undefined, signal: AbortSignal): Promise<T> {
    if (call.method !== 'GET') this.#fence?.();
    const started = this.#clock.monotonic();
    let code = 0;
    try {
      const response = await this.#connection.send({
        method: call.method,
        path: call.path,
        headers: call.contentType === undefined ? {} : { 'Content-Type': call.contentType },
        body,
        pool: 'calls',
        signal,
      });
      code = response.statusCode ?? 0;
      if (code < 200 || code > 299) throw await this.#refusal(what, response, signal);
      const text = await this.#read(what, response, signal);
      const parsed = parseObject(text);
      if (parsed === undefined)
        throw new TransportError('Malformed', `${what}: not a JSON object: ${text.slice(0, 200)}`);
      return parsed as T;
    } finally {
      this.#told(call.verb, call.resource, code, started);
    }
  }

  #told(verb: Verb, resource: Resource, code: number, started: number): void {
    this.#options.onRequest?.(verb, resource, code, (this.#clock.monotonic() - started) / 1000);
  }

  async #refusal(what: string, response: IncomingMessage, signal: AbortSignal): Promise<ApiError> {
    const text = await this.#read(what, response, signal);
    const status: Status | undefined = parseObject(text);
    const retryAfterMs = parseRetryAfter(response.headers['retry-after'], this.#clock.now());
    return new ApiError(what, response.statusCode ?? 0, status, text, retryAfterMs);
  }

  async #read(what: string, response: IncomingMessage, signal: AbortSignal): Promise<string> {
    const limit = this.#options.maxResponseBytes ?? MAX_RESPONSE_BYTES;
    const parts: Buffer[] = [];
    let length = 0;
    try {
      for await (const part of response as AsyncIterable<Buffer>) {
        length += part.length;
        if (length > limit)
          throw new TransportError('ResponseTooLarge', `${what}: the answer is above ${limit} bytes`);
        parts.push(part);
      }
    } catch (error) {
      if (error instanceof TransportError) throw error;
      if (signal.aborted && signal.reason instanceof TransportError) throw signal.reason;
      throw new TransportError('Connection', `${what}: the answer broke off: ${String(error)}`, {
        cause: error,
      });
    }
    return Buffer.concat(parts).toString('utf8');
  }
}

const JSON_CONTENT = 'application/json';

/** The server wants apiVersion and kind in every body. */
function named<T extends Identified>(resource: Resource, object: T): T {
  return { apiVersion: resource.apiVersion, kind: resource.kind, ...object };
}

function tooLate(what: string, deadlineMs: number): TransportError {
  return new TransportError('DeadlineExceeded', `${what}: no answer within ${deadlineMs / 1000} s`);
}

/** Aborts `end` with the caller's signal, as a TransportError; returns how to stop listening. */
function linkSignal(signal: AbortSignal | undefined, end: AbortController, what: string): () => void {
  const abort = (): void => {
    end.abort(new TransportError('Aborted', `${what}: aborted`, { cause: signal?.reason }));
  };
  if (signal?.aborted) abort();
  signal?.addEventListener('abort', abort, { once: true });
  return () => signal?.removeEventListener('abort', abort);
}

function parseObject(text: string): object | undefined {
  try {
    const parsed: unknown = JSON.parse(text);
    return typeof parsed === 'object' && parsed !== null ? parsed : undefined;
  } catch {
    return undefined; // the caller says what it was
  }
}

/** Seconds or an HTTP date; undefined when it is neither. */
export function parseRetryAfter(header: string | undefined, now: number): number | undefined {
  if (header === undefined) return undefined;
  if (/^\d+$/.test(header.trim())) return Number(header) * 1000;
  const date = Date.parse(header);
  return Number.isNaN(date) ? undefined : Math.max(0, date - now);
}
