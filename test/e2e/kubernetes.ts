// The cluster as a person at a terminal has it: kubectl, and waiting for what the API server tells.

import type { ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';
import { setTimeout as pause } from 'node:timers/promises';
import type { Lab } from './lab.ts';

/** Any object that the API server lists. */
export interface ApiObject {
  readonly metadata: {
    readonly name: string;
    readonly namespace?: string;
    readonly uid: string;
    readonly resourceVersion?: string;
  };
}

interface ApiList<Item> {
  readonly metadata: { readonly resourceVersion: string };
  readonly items: readonly Item[];
}

interface WatchEvent<Item> {
  readonly type: 'ADDED' | 'MODIFIED' | 'DELETED' | 'BOOKMARK' | 'ERROR';
  readonly object: Item;
}

/** kubectl inside the lab's network. */
export class Kubernetes {
  readonly #lab: Lab;

  constructor(lab: Lab) {
    this.#lab = lab;
  }

  /** Runs kubectl and returns what it printed; throws with its complaint. */
  async kubectl(...args: readonly string[]): Promise<string> {
    return await this.#lab.run('kubectl', args);
  }

  /** Applies objects, and waits for nothing. */
  async apply(...objects: readonly unknown[]): Promise<void> {
    await this.#lab.run('kubectl', ['apply', '--server-side', '-f', '-'], {
      input: JSON.stringify({ apiVersion: 'v1', kind: 'List', items: objects }),
    });
  }

  /** What stands at a path of the API. */
  async read<Result>(path: string): Promise<Result> {
    return JSON.parse(await this.kubectl('get', '--raw', path)) as Result;
  }

  async list<Item>(path: string): Promise<readonly Item[]> {
    return (await this.read<ApiList<Item>>(path)).items;
  }

  /**
   * Watches the list at `path` until `decide` gives something, and returns that. Outlives an API server that is away. After
   * `timeoutMs` it throws with `what` and the last state, told by `describe`.
   */
  async until<Item extends ApiObject, Value>(
    what: string,
    path: string,
    decide: (items: readonly Item[]) => Value | undefined | false,
    options: {
      readonly timeoutMs?: number;
      readonly describe?: ((items: readonly Item[]) => string) | undefined;
    } = {},
  ): Promise<Value> {
    const { timeoutMs = 60_000, describe = (items) => JSON.stringify(items, undefined, 1) } = options;
    const signal = AbortSignal.timeout(timeoutMs);
    let items: readonly Item[] = [];
    let trouble = '';
    while (!signal.aborted) {
      let list: ApiList<Item>;
      try {
        list = await this.read<ApiList<Item>>(path);
      } catch (error) {
        trouble = String(error);
        await pause(200);
        continue;
      }
      const byUid = new Map(list.items.map((item) => [item.metadata.uid, item]));
      ({ items } = list);
      const now = decide(items);
      if (now !== undefined && now !== false) return now;
      for await (const { type, object } of this.#watch<Item>(path, list.metadata.resourceVersion, signal)) {
        if (type === 'ERROR') break;
        if (type === 'BOOKMARK') continue;
        if (type === 'DELETED') byUid.delete(object.metadata.uid);
        else byUid.set(object.metadata.uid, object);
        items = [...byUid.values()];
        const later = decide(items);
        if (later !== undefined && later !== false) return later;
      }
    }
    throw new Error(`waited ${timeoutMs / 1000} s for ${what}; it is: ${describe(items)}\n${trouble}`);
  }

  async *#watch<Item>(
    path: string,
    resourceVersion: string,
    signal: AbortSignal,
  ): AsyncGenerator<WatchEvent<Item>> {
    const query = `${path}${path.includes('?') ? '&' : '?'}watch=1&resourceVersion=${resourceVersion}`;
    const child: ChildProcess = this.#lab.start('kubectl', ['get', '--raw', query], { quiet: true });
    if (child.stdout === null) throw new TypeError('kubectl has no output');
    const stop = () => this.#lab.kill(child);
    signal.addEventListener('abort', stop, { once: true });
    try {
      for await (const line of createInterface({ input: child.stdout }))
        yield JSON.parse(line) as WatchEvent<Item>;
    } finally {
      signal.removeEventListener('abort', stop);
      stop();
    }
  }
}
