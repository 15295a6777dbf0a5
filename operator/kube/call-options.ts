// What callers of the API client may ask for, and what a list gives.

export type Verb = 'GET' | 'LIST' | 'WATCH' | 'CREATE' | 'APPLY' | 'PATCH' | 'UPDATE' | 'DELETE';

export interface CallOptions {
  readonly signal?: AbortSignal | undefined;
  /** Instead of the client's. */
  readonly deadlineMs?: number | undefined;
}

export interface ListOptions extends CallOptions {
  readonly namespace?: string | undefined;
  readonly labelSelector?: string | undefined;
  readonly fieldSelector?: string | undefined;
  /** Objects per page. */
  readonly limit?: number | undefined;
  /** Token of the next page, from the last one. */
  readonly continue?: string | undefined;
  /** "0": whatever the server has in memory; "" or absent: the newest. */
  readonly resourceVersion?: string | undefined;
}

export interface ListMetadata {
  readonly resourceVersion?: string;
  readonly continue?: string;
  readonly remainingItemCount?: number;
}

export interface ListPage<T> {
  /** With apiVersion and kind, which the server leaves out of a list's items. */
  readonly items: T[];
  readonly metadata: ListMetadata;
}

export interface WriteOptions extends CallOptions {
  readonly fieldManager?: string | undefined;
  readonly subresource?: string | undefined;
  readonly dryRun?: boolean | undefined;
}

export interface ApplyOptions extends WriteOptions {
  readonly fieldManager: string;
  /** Takes over fields that another manager holds; without it that is a 409. */
  readonly force: boolean;
}

export interface RemoveOptions extends CallOptions {
  /** Only if it is still this very object; another one of its name gives 409. */
  readonly uid?: string | undefined;
  readonly resourceVersion?: string | undefined;
  readonly gracePeriodSeconds?: number | undefined;
  readonly propagationPolicy?: 'Foreground' | 'Background' | 'Orphan' | undefined;
  readonly dryRun?: boolean | undefined;
}

export interface WatchOptions {
  readonly namespace?: string | undefined;
  readonly labelSelector?: string | undefined;
  readonly fieldSelector?: string | undefined;
  readonly resourceVersion: string;
  /** After how long the server is to end the watch. */
  readonly timeoutSeconds: number;
  /** Longest time without a byte; default the server's timeout and 10 s. */
  readonly inactivityMs?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}
