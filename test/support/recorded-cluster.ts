// A cluster of plain objects behind the operator's own caches, for tests that break single calls or hold back what a watch would bring. It knows no
// admission, no defaults and no controllers; what the API server really does is tested on a real one.
import { Caches } from '../../operator/caches.ts';
import { ApiError } from '../../operator/kube/errors.ts';
import { keyFor, type Identified } from '../../operator/kube/identity.ts';
import type { Key, Resource } from '../../operator/kube/object.ts';
import type { Writer } from '../../operator/write-plan.ts';

interface Stored {
  apiVersion: string;
  kind: string;
  metadata: {
    name: string;
    namespace?: string;
    uid: string;
    resourceVersion: string;
    labels?: Record<string, string>;
    annotations?: Record<string, string>;
    deletionTimestamp?: string;
    creationTimestamp?: string;
    [field: string]: unknown;
  };
  [field: string]: unknown;
}

export interface Write {
  readonly verb: 'create' | 'apply' | 'patch' | 'remove';
  readonly kind: string;
  readonly key: Key;
  readonly subresource?: string;
  /** Of a pod that is removed: it was Ready for all that the cluster knows. */
  readonly serving?: boolean;
}

export function apiError(status: number, reason: string, message: string, details?: object): ApiError {
  return new ApiError('test', status, { reason, message, ...(details && { details }) }, '', undefined);
}

export class RecordedCluster {
  readonly writes: Write[] = [];
  reads = 0;
  /** Throws in place of a write (`before`), or once it took place (`after`: the answer was lost). */
  fault: (write: Write, count: number, when: 'before' | 'after') => void = () => undefined;
  /** Keys of deployments that a change led to. */
  readonly woken = new Set<Key>();
  readonly caches: Caches;
  readonly #objects = new Map<string, Stored>();
  #version = 100;

  constructor() {
    this.caches = new Caches({
      namespaces: [],
      resourceClaims: true,
      onKey: (key) => this.woken.add(key),
    });
  }

  /** A new process that has the same world before it. */
  restartedCaches(): Caches {
    const caches = new Caches({ namespaces: [], resourceClaims: true, onKey: (key) => this.woken.add(key) });
    this.#deliverTo(caches);
    return caches;
  }

  /** Brings the caches level with the cluster, as watches do. */
  deliver(): void {
    this.#deliverTo(this.caches);
  }

  #deliverTo(caches: Caches): void {
    for (const { resource, store, onChange, labelSelector, keep } of caches.watches()) {
      const [label, value] = labelSelector?.split('=') ?? [];
      const listed = this.list(resource.kind)
        .filter(({ metadata }) => label === undefined || metadata.labels?.[label] === value)
        .map((object) => structuredClone(object))
        .map((object) => keep?.(object) ?? object);
      for (const change of store.replace(listed, String(this.#version))) onChange(change);
    }
  }

  list(kind: string): Stored[] {
    return [...this.#objects.values()].filter((object) => object.kind === kind);
  }

  get(kind: string, key: Key): Stored | undefined {
    return this.#objects.get(`${kind} ${key}`);
  }

  /** Somebody else's write. */
  put(object: Identified & { kind: string }): Stored {
    const key = `${object.kind} ${keyFor(object)}`;
    const before = this.#objects.get(key);
    const stored = structuredClone(object) as Stored;
    this.#version += 1;
    stored.metadata.uid = object.metadata?.uid ?? before?.metadata.uid ?? `uid-${this.#version}`;
    stored.metadata.resourceVersion = String(this.#version);
    this.#objects.set(key, stored);
    return stored;
  }

  edit(kind: string, key: Key, change: (object: Stored) => void): void {
    const object = this.get(kind, key);
    if (object === undefined) throw new Error(`no ${kind} ${key}`);
    const copy = structuredClone(object);
    change(copy);
    this.put(copy);
  }

  drop(kind: string, key: Key): void {
    if (this.#objects.delete(`${kind} ${key}`)) this.#version += 1;
  }

  /** Kubelets let go of pods that are being deleted. */
  finishDeletions(): void {
    for (const { kind, metadata } of this.#objects.values())
      if (metadata.deletionTimestamp !== undefined) this.drop(kind, keyFor({ metadata }));
  }

  /** What the operator is given in place of the API client. */
  readonly writer: Writer = {
    get: async <T>(resource: Resource, key: Key) => {
      this.reads += 1;
      return structuredClone(this.#found(resource, key)) as T;
    },
    create: async <T extends Identified>(resource: Resource, object: T) =>
      this.#write({ verb: 'create', kind: resource.kind, key: keyFor(object) }, () => {
        if (this.get(resource.kind, keyFor(object)) !== undefined)
          throw apiError(409, 'AlreadyExists', `${keyFor(object)} already exists`);
        const { apiVersion, kind } = resource;
        return this.#returned({ apiVersion, kind, ...object }) as unknown as T;
      }),
    apply: async <T extends Identified>(
      resource: Resource,
      object: T,
      { subresource }: { subresource?: string | undefined },
    ) =>
      this.#write(
        { verb: 'apply', kind: resource.kind, key: keyFor(object), ...(subresource && { subresource }) },
        () => {
          const before = this.get(resource.kind, keyFor(object));
          if (before === undefined && subresource !== undefined) this.#found(resource, keyFor(object));
          const { apiVersion, kind } = resource;
          return this.#returned(merged(before ?? { apiVersion, kind }, object) as Stored) as unknown as T;
        },
      ),
    mergePatch: async <T>(resource: Resource, key: Key, patch: object) =>
      this.#write(
        { verb: 'patch', kind: resource.kind, key },
        () => this.#patch(resource, key, patch) as unknown as T,
      ),
    strategicMergePatch: async <T>(
      resource: Resource,
      key: Key,
      patch: object,
      { subresource }: { subresource?: string | undefined },
    ) =>
      this.#write(
        { verb: 'patch', kind: resource.kind, key, ...(subresource && { subresource }) },
        () => this.#patch(resource, key, patch) as unknown as T,
      ),
    remove: async (resource: Resource, key: Key, { uid }: { uid?: string | undefined }) =>
      this.#write(
        { verb: 'remove', kind: resource.kind, key, serving: this.#isServing(resource.kind, key) },
        () => {
          const object = this.#found(resource, key);
          if (uid !== undefined && object.metadata.uid !== uid)
            throw apiError(409, 'Conflict', 'another uid');
          const before = structuredClone(object);
          if (resource.kind === 'Pod' && Object.hasOwn(object['spec'] ?? {}, 'nodeName'))
            this.edit(resource.kind, key, ({ metadata }) => {
              metadata.deletionTimestamp ??= '2026-01-01T00:00:00Z';
            });
          else this.drop(resource.kind, key);
          return before;
        },
      ),
  };

  #isServing(kind: string, key: Key): boolean {
    const status = this.get(kind, key)?.['status'] as
      { phase?: string; conditions?: { type: string; status: string }[] } | undefined;
    const gated = status?.conditions?.some(
      ({ type, status }) => type.endsWith('RouterAcknowledged') && status === 'True',
    );
    return status?.phase === 'Running' && gated === true;
  }

  #write<T>(write: Write, effect: () => T): T {
    const count = this.writes.length;
    this.fault(write, count, 'before');
    const result = effect();
    this.writes.push(write);
    this.fault(write, count, 'after');
    return result;
  }

  #found({ kind, plural }: Resource, key: Key): Stored {
    const object = this.get(kind, key);
    if (object === undefined) throw apiError(404, 'NotFound', `${plural} "${key}" not found`);
    return object;
  }

  #returned(object: { kind: string } & Identified): Stored {
    return structuredClone(this.put(object));
  }

  #patch(resource: Resource, key: Key, patch: object): Stored {
    const before = this.#found(resource, key);
    const uid = (patch as { metadata?: { uid?: string } }).metadata?.uid;
    if (uid !== undefined && uid !== before.metadata.uid) throw apiError(409, 'Conflict', 'another uid');
    return this.#returned(merged(before, patch) as Stored);
  }
}

/** Merge patch, with conditions merged by their type. */
function merged(before: object, patch: object): object {
  const result: Record<string, unknown> = { ...before };
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) delete result[key];
    else if (key === 'conditions' && Array.isArray(value) && Array.isArray(result[key])) {
      const types = new Set(value.map(({ type }: { type: string }) => type));
      const kept = (result[key] as { type: string }[]).filter(({ type }) => !types.has(type));
      result[key] = [...kept, ...(value as unknown[])];
    } else if (typeof value === 'object' && !Array.isArray(value))
      result[key] = merged((result[key] as object | undefined) ?? {}, value as object);
    else result[key] = value;
  }
  return result;
}
