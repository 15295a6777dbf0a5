// The newest state that was seen of a set of objects, by key and by named indexes. Objects are read-only: they are shared with every reader.
import type { Identified } from './identity.ts';
import { keyFor } from './identity.ts';
import type { Key } from './object.ts';
import { compareResourceVersions } from './resource-version.ts';

/** The values under which an object is found in one index; none leaves it out. */
export type IndexFunction<T> = (object: T) => readonly string[];
export type Indexes<T> = Readonly<Record<string, IndexFunction<T>>>;

export type Change<T> =
  | { readonly type: 'added'; readonly object: T }
  | { readonly type: 'modified'; readonly object: T; readonly old: T }
  | { readonly type: 'removed'; readonly object: T };

export class Store<T extends Identified> {
  readonly #objects = new Map<Key, T>();
  readonly #indexFunctions: Indexes<T>;
  /** index name -> value -> keys; values without keys are taken away. */
  readonly #indexes = new Map<string, Map<string, Set<Key>>>();
  #resourceVersion: string | undefined;

  constructor(indexes: Indexes<T> = {}) {
    this.#indexFunctions = indexes;
    for (const name of Object.keys(indexes)) this.#indexes.set(name, new Map());
  }

  get(key: Key): T | undefined {
    return this.#objects.get(key);
  }

  list(): T[] {
    return [...this.#objects.values()];
  }

  keys(): Key[] {
    return [...this.#objects.keys()];
  }

  /** Throws for an index that was not declared: an empty answer would read as "there are none". */
  byIndex(name: string, value: string): T[] {
    const index = this.#indexes.get(name);
    if (index === undefined) throw new Error(`the store has no index ${name}`);
    const found: T[] = [];
    for (const key of index.get(value) ?? []) {
      const object = this.#objects.get(key);
      if (object !== undefined) found.push(object);
    }
    return found;
  }

  /** Newest version seen, by a list, an event or a bookmark; undefined before the first list. Never goes back. */
  get resourceVersion(): string | undefined {
    return this.#resourceVersion;
  }

  get size(): number {
    return this.#objects.size;
  }

  advance(resourceVersion: string | undefined): void {
    if (resourceVersion === undefined || resourceVersion === '') return;
    const order =
      this.#resourceVersion === undefined
        ? 1
        : compareResourceVersions(resourceVersion, this.#resourceVersion);
    if (order === undefined || order > 0) this.#resourceVersion = resourceVersion;
  }

  /** Undefined when the store already has this version of the object or a newer one. */
  set(object: T): Change<T> | undefined {
    const key = keyFor(object);
    const old = this.#objects.get(key);
    if (old !== undefined && !isNewer(object, old)) return undefined;
    this.#put(key, object, old);
    return old === undefined ? { type: 'added', object } : { type: 'modified', object, old };
  }

  /** `last` is the object as it was when deleted. Undefined when it is not here, or one of that name was made since. */
  remove(last: T): Change<T> | undefined {
    const key = keyFor(last);
    const old = this.#objects.get(key);
    if (old === undefined || isNewer(old, last)) return undefined;
    this.#drop(key, old);
    return { type: 'removed', object: last };
  }

  /** Takes over a complete list and tells what is different. */
  replace(objects: readonly T[], resourceVersion: string | undefined): Change<T>[] {
    const changes: Change<T>[] = [];
    const listed = new Map<Key, T>();
    for (const object of objects) listed.set(keyFor(object), object);
    for (const [key, old] of this.#objects) {
      if (listed.has(key)) continue;
      this.#drop(key, old);
      changes.push({ type: 'removed', object: old });
    }
    for (const [key, object] of listed) {
      const old = this.#objects.get(key);
      if (old !== undefined && old.metadata?.resourceVersion === object.metadata?.resourceVersion) continue;
      this.#put(key, object, old);
      changes.push(old === undefined ? { type: 'added', object } : { type: 'modified', object, old });
    }
    this.advance(resourceVersion);
    return changes;
  }

  #put(key: Key, object: T, old: T | undefined): void {
    if (old !== undefined) this.#unindex(key, old);
    this.#objects.set(key, object);
    for (const [name, values] of Object.entries(this.#indexFunctions)) {
      const index = this.#indexes.get(name)!;
      for (const value of values(object)) {
        const keys = index.get(value);
        if (keys === undefined) index.set(value, new Set([key]));
        else keys.add(key);
      }
    }
  }

  #drop(key: Key, old: T): void {
    this.#objects.delete(key);
    this.#unindex(key, old);
  }

  #unindex(key: Key, old: T): void {
    for (const [name, values] of Object.entries(this.#indexFunctions)) {
      const index = this.#indexes.get(name)!;
      for (const value of values(old)) {
        const keys = index.get(value);
        keys?.delete(key);
        if (keys?.size === 0) index.delete(value);
      }
    }
  }
}

function isNewer(a: Identified, b: Identified): boolean {
  const left = a.metadata?.resourceVersion;
  const right = b.metadata?.resourceVersion;
  if (left === undefined || right === undefined) return true;
  const order = compareResourceVersions(left, right);
  return order === undefined || order > 0;
}
