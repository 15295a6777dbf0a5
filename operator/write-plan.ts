// The only file that writes to the cluster. Every write is one of: server-side apply, POST, a patch or a DELETE that holds for one uid alone; so a
// reconcile that ends between any two of them leaves nothing that the next one does not complete, and two at once undo nothing of each other.
import type { V1Pod, V1PodCondition } from '@kubernetes/client-node';
import type { InternVLDeployment } from '../gen/crd/internvl-deployment.ts';
import {
  ANNOTATIONS,
  API_VERSION,
  COMPONENTS,
  FIELD_MANAGER,
  KIND,
  LABELS,
  STATUS_FIELD_MANAGER,
} from './api.ts';
import { isSubset, needsApply, withAppliedHash } from './applied.ts';
import { CHILD_RESOURCES, INTERNVL_DEPLOYMENTS } from './caches.ts';
import type { Expectations } from './expectations.ts';
import type { ApiClient } from './kube/api-client.ts';
import { asError, isAlreadyExists, isNotFound } from './kube/errors.ts';
import { keyFor, makeKey } from './kube/identity.ts';
import { countedAsApplied } from './kube/managed-fields.ts';
import type { Log } from './kube/log.ts';
import type { Key, Resource } from './kube/object.ts';
import { CONFIG_MAPS, PODS } from './kube/resources.ts';
import { routersConfigMapName } from './names.ts';
import type { ChildObject, UnmadeGroup } from './observed.ts';
import type { Plan } from './plan.ts';
import type { PlannedGroup } from './revisions.ts';
import { classify, LeftOver, mustControl, NameCollision } from './refusal.ts';

/** What is used of the API client. It is the fenced one: it refuses to write once this process may not act any more. */
export type Writer = Pick<
  ApiClient,
  'get' | 'create' | 'apply' | 'mergePatch' | 'strategicMergePatch' | 'remove'
>;

export type Status = InternVLDeployment['status'];

export interface StatusEvent {
  readonly type: 'Normal' | 'Warning';
  readonly reason: string;
  readonly message: string;
}

export interface PassOptions {
  /** By group name; kept up to date for the next plan. */
  readonly unmade: Map<string, UnmadeGroup>;
  readonly caches: { child(apiVersion: string, kind: string, key: Key): ChildObject | undefined };
  readonly writer: Writer;
  /** What to tell of a change of status. */
  readonly events: (before: Status, after: Status) => readonly StatusEvent[];
  readonly record: (deployment: InternVLDeployment, event: StatusEvent) => void;
  /** Told of every status that was written. */
  readonly onStatus: (before: Status, after: Status) => void;
  readonly log: Log;
  readonly now: () => number;
  readonly newId: () => string;
}

/** A foreign object in the way gives no sign when it goes. */
const COLLISION_RETRY_MS = 60_000;
/** The garbage collector takes a deleted deployment's children away within seconds. */
const LEFT_OVER_RETRY_MS = 2000;

export interface Interruption {
  readonly error: Error;
  readonly refusal: 'transient' | 'terminating';
}

/** The writes of one reconcile. */
export class Pass {
  readonly #deployment: InternVLDeployment;
  readonly #owner: { readonly uid: string; readonly name: string };
  readonly #key: Key;
  readonly #id: string;
  readonly #signal: AbortSignal;
  readonly #expectations: Expectations;
  readonly #options: PassOptions;
  readonly #errors: Error[] = [];
  #gatesStand = false;

  constructor(
    deployment: InternVLDeployment,
    key: Key,
    signal: AbortSignal,
    expectations: Expectations,
    options: PassOptions,
  ) {
    this.#deployment = deployment;
    this.#owner = { uid: deployment.metadata.uid ?? '', name: deployment.metadata.name };
    this.#key = key;
    this.#id = options.newId();
    this.#signal = signal;
    this.#expectations = expectations;
    this.#options = options;
  }

  /** Whether all is as the plan's status supposes: the gates that it counts on are written. */
  get gatesStand(): boolean {
    return this.#gatesStand;
  }

  /** Errors for the status: those that stay until somebody does something. */
  told(): readonly Error[] {
    return this.#errors.filter((error) => classify(error) !== 'conflict');
  }

  /** When to look again at objects that are in the way. */
  get retryAfterMs(): number | undefined {
    if (this.#errors.some((error) => error instanceof LeftOver)) return LEFT_OVER_RETRY_MS;
    return this.#errors.some((error) => error instanceof NameCollision) ? COLLISION_RETRY_MS : undefined;
  }

  /** Throws what should be tried again with backoff; nothing comes of trying often when an object is in the way. */
  throwUnlessDone(): void {
    const errors = this.#errors.filter(
      (error) => !(error instanceof NameCollision) && !(error instanceof LeftOver),
    );
    const [first] = errors;
    if (first === undefined) return;
    throw errors.length === 1
      ? first
      : new AggregateError(errors, `${errors.length} writes failed: ${first.message}`);
  }

  /** In the order that keeps every state in between safe: what pods need, evidence, drains, removals, and only then new pods. */
  async execute(plan: Plan): Promise<Interruption | undefined> {
    this.#gatesStand = plan.gates.length === 0;
    try {
      let templateKept = true;
      for (const object of plan.apply) {
        const applied = await this.#attempt(() => this.#apply(object));
        // Pods that cannot be made again from their own revision must not be made at all.
        if (!applied && object.metadata.labels?.[LABELS.component] === COMPONENTS.revision)
          templateKept = false;
      }
      const { failures } = plan;
      const evidenceKept = failures === undefined || (await this.#attempt(() => this.#apply(failures)));
      const gates: boolean[] = [];
      for (const { pod, condition } of plan.gates)
        gates.push(await this.#attempt(() => this.#setCondition(pod, condition)));
      this.#gatesStand = gates.every((written) => written);
      // Groups are drained for others that have taken over, by their gates.
      if (this.#gatesStand)
        for (const { pod, since } of plan.drain) await this.#attempt(() => this.#setDrain(pod, since));
      if (evidenceKept)
        for (const { pod, why } of plan.remove) await this.#attempt(() => this.#removePod(pod, why));
      if (templateKept) for (const group of plan.create) if (!(await this.#createGroup(group))) break;
      for (const object of plan.prune) await this.#attempt(() => this.#prune(object));
      if (plan.staleReports.length > 0) await this.#attempt(() => this.#dropReports(plan.staleReports));
      return undefined;
    } catch (thrown) {
      const error = asError(thrown);
      return { error, refusal: classify(error) === 'terminating' ? 'terminating' : 'transient' };
    }
  }

  async writeStatus(next: Status): Promise<void> {
    const { status: before, metadata } = this.#deployment;
    if (next === undefined || JSON.stringify(before) === JSON.stringify(next) || isSame(before, next)) return;
    const { name, namespace = '', uid = '' } = metadata;
    const written = await this.#write(() =>
      this.#options.writer.apply(
        INTERNVL_DEPLOYMENTS,
        // The uid: a deployment that was deleted and made again must not get the old one's status.
        { apiVersion: API_VERSION, kind: KIND, metadata: { name, namespace, uid }, status: next },
        { fieldManager: STATUS_FIELD_MANAGER, force: true, subresource: 'status', signal: this.#signal },
      ),
    );
    this.#wrote(INTERNVL_DEPLOYMENTS, written);
    this.#options.onStatus(before, next);
    for (const event of this.#options.events(before, next)) this.#options.record(this.#deployment, event);
  }

  /** False when the write was refused; throws what ends the whole pass. */
  async #attempt(write: () => Promise<unknown>): Promise<boolean> {
    try {
      await write();
      return true;
    } catch (thrown) {
      const refusal = classify(thrown);
      if (refusal === 'transient' || refusal === 'terminating') throw thrown;
      this.#errors.push(asError(thrown));
      return false;
    }
  }

  async #write<T>(call: () => Promise<T>): Promise<T> {
    this.#signal.throwIfAborted();
    return call();
  }

  async #apply(object: ChildObject): Promise<void> {
    const resource = resourceOf(object);
    const key = keyFor(object);
    const desired = withAppliedHash(object);
    const cached = this.#options.caches.child(object.apiVersion, object.kind, key);
    // Written once: the first to come has fixed what is in it, an operator of another release perhaps.
    if (object['immutable'] === true) {
      if (cached === undefined) return this.#create(desired);
      return mustControl(cached, this.#owner);
    }
    if (cached === undefined) {
      // By POST, which the API server refuses for a name that is taken: the cache holds only what carries our label, and no foreign object may be changed.
      if (await this.#isCreated(resource, key, desired)) return;
    } else {
      mustControl(cached, this.#owner);
      // Once it is gone its event comes, and it is made again.
      if (cached.metadata.deletionTimestamp !== undefined || !needsApply(desired, cached)) return;
    }
    const existing = await this.#getChild(resource, key);
    // Gone since: its event comes.
    if (existing === undefined) throw new LeftOver(object.kind, key);
    mustControl(existing, this.#owner);
    if (existing.metadata.deletionTimestamp !== undefined) return;
    await this.#ownByApply(resource, key, existing);
    const options = { fieldManager: FIELD_MANAGER, force: true, signal: this.#signal };
    this.#wrote(resource, await this.#write(() => this.#options.writer.apply(resource, desired, options)));
    this.#log('applied', object.kind, key);
  }

  /** False when an object of that name exists. */
  async #isCreated(resource: Resource, key: Key, object: ChildObject): Promise<boolean> {
    const options = { fieldManager: FIELD_MANAGER, signal: this.#signal };
    try {
      this.#wrote(resource, await this.#write(() => this.#options.writer.create(resource, object, options)));
      this.#log('created', resource.kind, key);
      return true;
    } catch (error) {
      if (isAlreadyExists(error)) return false;
      throw error;
    }
  }

  /** Before the first apply to an object that we made by POST: only what counts as applied goes away when it is no longer wanted. */
  async #ownByApply(resource: Resource, key: Key, existing: ChildObject): Promise<void> {
    const { uid, resourceVersion, managedFields = [] } = existing.metadata;
    const entries = countedAsApplied(managedFields, FIELD_MANAGER);
    if (entries === undefined) return;
    const patch = { metadata: { uid, resourceVersion, managedFields: entries } };
    const options = { fieldManager: FIELD_MANAGER, signal: this.#signal };
    this.#wrote(
      resource,
      await this.#write(() => this.#options.writer.mergePatch(resource, key, patch, options)),
    );
  }

  /** Rank pods and their claim; false when no further group should be tried. */
  async #createGroup(group: PlannedGroup): Promise<boolean> {
    const { unmade, now } = this.#options;
    const objects = [
      ...(group.claim === undefined ? [] : [group.claim]),
      ...group.pods,
    ] as unknown as ChildObject[];
    for (const object of objects) {
      if (object.kind !== PODS.kind && this.#isThere(object)) continue;
      const made = await this.#attempt(async () => {
        try {
          await this.#create(object);
        } catch (thrown) {
          const { message } = asError(thrown);
          const before = unmade.get(group.name);
          const refused = classify(thrown) === 'refused';
          const since = before?.refused === refused ? before.since : now();
          unmade.set(group.name, { since, message, refused });
          throw thrown;
        }
      });
      if (!made) return false;
    }
    unmade.delete(group.name);
    return true;
  }

  /** A claim outlives the pods of its group: it is made once. */
  #isThere(object: ChildObject): boolean {
    const cached = this.#options.caches.child(object.apiVersion, object.kind, keyFor(object));
    return (
      cached !== undefined &&
      cached.metadata.ownerReferences?.some(({ uid }) => uid === this.#owner.uid) === true
    );
  }

  async #create(object: ChildObject): Promise<void> {
    const resource = resourceOf(object);
    const key = keyFor(object);
    if (await this.#isCreated(resource, key, object)) return;
    const existing = await this.#getChild(resource, key);
    if (existing !== undefined) {
      mustControl(existing, this.#owner);
      // It is ours: the cache is behind, and what to do with it is decided when the cache has it. Without its labels it never would.
      this.#wrote(resource, existing);
      if (!isSubset(object.metadata.labels, existing.metadata.labels))
        await this.#restoreLabels(resource, key, existing, object);
    }
    throw new LeftOver(object.kind, key);
  }

  /** Somebody took them away, and with them the object out of our sight. */
  async #restoreLabels(
    resource: Resource,
    key: Key,
    { metadata: { uid } }: ChildObject,
    { metadata: { labels } }: ChildObject,
  ): Promise<void> {
    const options = { fieldManager: FIELD_MANAGER, signal: this.#signal };
    const patch = { metadata: { uid, labels } };
    this.#wrote(
      resource,
      await this.#write(() => this.#options.writer.mergePatch(resource, key, patch, options)),
    );
    this.#log('restored labels', resource.kind, key);
  }

  async #setCondition(pod: V1Pod, condition: V1PodCondition): Promise<void> {
    await this.#patchPod(pod, 'status', { status: { conditions: [condition] } });
    this.#log('set condition', PODS.kind, keyFor(pod), {
      condition: condition.type,
      status: condition.status,
    });
  }

  async #setDrain(pod: V1Pod, since: string | undefined): Promise<void> {
    const annotations = { [ANNOTATIONS.drain]: since ?? null };
    await this.#patchPod(pod, undefined, { metadata: { annotations } });
    this.#log(since === undefined ? 'undrained' : 'drained', PODS.kind, keyFor(pod));
  }

  /** Holds for this uid alone: for another pod of the name it is a conflict. One that has gone is looked at when the cache shows it. */
  async #patchPod(
    pod: V1Pod,
    subresource: string | undefined,
    patch: { metadata?: object; status?: object },
  ): Promise<void> {
    const body = { ...patch, metadata: { ...patch.metadata, uid: pod.metadata?.uid } };
    const options = {
      fieldManager: FIELD_MANAGER,
      signal: this.#signal,
      ...(subresource && { subresource }),
    };
    try {
      this.#wrote(
        PODS,
        await this.#write(() => this.#options.writer.strategicMergePatch(PODS, keyFor(pod), body, options)),
      );
    } catch (error) {
      if (!isNotFound(error)) throw error;
    }
  }

  async #removePod(pod: V1Pod, why: string): Promise<void> {
    const { uid = '' } = pod.metadata ?? {};
    const key = keyFor(pod);
    await this.#remove(PODS, key, uid, why);
    this.#expectations.removed(this.#key, key, uid, this.#options.now());
  }

  async #prune(object: ChildObject): Promise<void> {
    const { uid, deletionTimestamp } = object.metadata;
    if (uid === undefined || deletionTimestamp !== undefined) return;
    await this.#remove(resourceOf(object), keyFor(object), uid, 'no longer needed');
  }

  async #remove(resource: Resource, key: Key, uid: string, why: string): Promise<void> {
    try {
      await this.#write(() => this.#options.writer.remove(resource, key, { uid, signal: this.#signal }));
      this.#log('deleted', resource.kind, key, { why });
    } catch (error) {
      // Gone. Another object of that name is a conflict, and so is a deletion that the API server could not carry out: neither may be waited for.
      if (!isNotFound(error)) throw error;
    }
  }

  async #dropReports(routers: readonly string[]): Promise<void> {
    const { name, namespace } = this.#deployment.metadata;
    const key = makeKey(namespace, routersConfigMapName(name));
    const data = Object.fromEntries(routers.map((router) => [router, null]));
    const options = { fieldManager: FIELD_MANAGER, signal: this.#signal };
    try {
      this.#wrote(
        CONFIG_MAPS,
        await this.#write(() => this.#options.writer.mergePatch(CONFIG_MAPS, key, { data }, options)),
      );
      this.#log('dropped reports', CONFIG_MAPS.kind, key, { routers });
    } catch (error) {
      if (!isNotFound(error)) throw error;
    }
  }

  async #getChild(resource: Resource, key: Key): Promise<ChildObject | undefined> {
    try {
      return await this.#options.writer.get<ChildObject>(resource, key, { signal: this.#signal });
    } catch (error) {
      if (isNotFound(error)) return undefined;
      throw error;
    }
  }

  #wrote(resource: Resource, object: unknown): void {
    const { resourceVersion } = (object as ChildObject).metadata;
    this.#expectations.wrote(this.#key, resource, resourceVersion, this.#options.now());
  }

  #log(message: string, kind: string, name: Key, fields: object = {}): void {
    this.#options.log.info(message, { key: this.#key, reconcileId: this.#id, kind, name, ...fields });
  }
}

function isSame(a: unknown, b: unknown): boolean {
  return canonical(a) === canonical(b);
}

function canonical(value: unknown): string {
  return JSON.stringify(value, (_key, child: unknown) =>
    typeof child === 'object' && child !== null && !Array.isArray(child)
      ? Object.fromEntries(Object.entries(child).toSorted(([x], [y]) => (x < y ? -1 : 1)))
      : child,
  );
}

const RESOURCES = new Map(
  [...CHILD_RESOURCES, PODS].map((resource) => [`${resource.apiVersion}/${resource.kind}`, resource]),
);

function resourceOf({ apiVersion, kind }: ChildObject): Resource {
  const resource = RESOURCES.get(`${apiVersion}/${kind}`);
  if (resource === undefined)
    throw new Error(`${apiVersion} ${kind} is not a kind that the operator watches`);
  return resource;
}
