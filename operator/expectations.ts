// What the operator has written and the caches have not seen yet. A decision on a cache that is behind our own write could repeat or undo it: a
// second drain, a pod that is deleted twice, a fresh time of transition. So nothing is decided for a deployment until the caches are level with it.
import { hasReached } from './kube/resource-version.ts';
import type { Key, Resource } from './kube/object.ts';

type Kind = Pick<Resource, 'apiVersion' | 'kind'>;

/** What expectations.ts asks the caches. */
export interface SeenVersions {
  resourceVersion(kind: Kind, namespace: string | undefined): string | undefined;
  /** Whether the cache still shows the pod with this uid as not being deleted. */
  showsLivingPod(key: Key, uid: string): boolean;
}

interface Written {
  readonly kinds: Map<string, { readonly kind: Kind; resourceVersion: string }>;
  /** Pod uid -> key. */
  readonly removed: Map<string, Key>;
  since: number;
}

/** Caches that are behind for this long are taken as they are: an object may have left the watch, and waiting would never end. */
export const STALE_LIMIT_MS = 30_000;

export class Expectations {
  readonly #written = new Map<Key, Written>();

  /** An object of the deployment `key` was written and has this version now. */
  wrote(key: Key, kind: Kind, resourceVersion: string | undefined, now: number): void {
    if (resourceVersion === undefined) return;
    const written = this.#of(key, now);
    const id = `${kind.apiVersion}/${kind.kind}`;
    const last = written.kinds.get(id);
    // Our own writes of one kind come back in order, except that a no-op returns an older version.
    if (last === undefined || !hasReached(last.resourceVersion, resourceVersion))
      written.kinds.set(id, { kind, resourceVersion });
  }

  /** A pod of the deployment `key` was deleted. Its answer may carry the version before the deletion, so the pod itself is looked at. */
  removed(key: Key, pod: Key, uid: string, now: number): void {
    this.#of(key, now).removed.set(uid, pod);
  }

  /**
   * What the caches still have to see for `key`: undefined = level. `overdueMs` is how much longer it is worth to wait; when it is not positive, what was
   * expected is forgotten by `forget`.
   */
  pending(
    key: Key,
    namespace: string | undefined,
    seen: SeenVersions,
    now: number,
  ): { readonly what: string; readonly leftMs: number } | undefined {
    const written = this.#written.get(key);
    if (written === undefined) return undefined;
    for (const [id, { kind, resourceVersion }] of written.kinds)
      if (hasReached(seen.resourceVersion(kind, namespace), resourceVersion)) written.kinds.delete(id);
    for (const [uid, pod] of written.removed) if (!seen.showsLivingPod(pod, uid)) written.removed.delete(uid);
    const [first] = written.kinds.values();
    const [pod] = written.removed.values();
    if (first === undefined && pod === undefined) {
      this.#written.delete(key);
      return undefined;
    }
    const what =
      first === undefined
        ? `deletion of pod ${pod}`
        : `${first.kind.kind} at version ${first.resourceVersion}`;
    return { what, leftMs: written.since + STALE_LIMIT_MS - now };
  }

  forget(key: Key): void {
    this.#written.delete(key);
  }

  get size(): number {
    return this.#written.size;
  }

  #of(key: Key, now: number): Written {
    let written = this.#written.get(key);
    if (written === undefined) {
      written = { kinds: new Map(), removed: new Map(), since: now };
      this.#written.set(key, written);
    }
    written.since = now;
    return written;
  }
}
