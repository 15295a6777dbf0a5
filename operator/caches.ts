// What the operator watches: a reflector for each kind and namespace, and how a change of any object leads to the deployment to look at again.
import type { V1ContainerStatus, V1Node, V1Pod, V1PodSpec } from '@kubernetes/client-node';
import type { InternVLDeployment } from '../gen/crd/internvl-deployment.ts';
import { ANNOTATIONS, API_VERSION, KIND, LABELS, MANAGER, PLURAL } from './api.ts';
import type { Identified } from './kube/identity.ts';
import { splitKey } from './kube/identity.ts';
import type { Key, Resource } from './kube/object.ts';
import {
  CONFIG_MAPS,
  DEPLOYMENTS,
  NETWORK_POLICIES,
  NODES,
  PDBS,
  PODS,
  RESOURCE_CLAIMS,
  ROLE_BINDINGS,
  ROLES,
  SERVICE_ACCOUNTS,
  SERVICES,
} from './kube/resources.ts';
import { Store, type Change, type Indexes } from './kube/store.ts';
import { baseName } from './names.ts';
import type { ChildObject, ObservedNode } from './observed.ts';

export const INTERNVL_DEPLOYMENTS: Resource = {
  apiVersion: API_VERSION,
  kind: KIND,
  plural: PLURAL,
  namespaced: true,
};

/** Kinds of children other than pods. ResourceClaims are among them only where the cluster serves them. */
export const CHILD_RESOURCES: readonly Resource[] = [
  CONFIG_MAPS,
  SERVICES,
  SERVICE_ACCOUNTS,
  DEPLOYMENTS,
  ROLES,
  ROLE_BINDINGS,
  PDBS,
  NETWORK_POLICIES,
  RESOURCE_CLAIMS,
];

const BY_OWNER = 'owner';
const BY_NODE = 'node';
const BY_INSTANCE = 'instance';

/** What one reflector is to watch, and into which store. */
export interface WatchSpec {
  readonly resource: Resource;
  readonly namespace: string | undefined;
  readonly labelSelector: string | undefined;
  readonly store: Store<Identified>;
  readonly onChange: (change: Change<Identified>) => void;
  /** What is kept of an object; the rest would be memory without use. Undefined = all. */
  readonly keep: ((object: Identified) => Identified) | undefined;
}

/** One kind over all watched namespaces. */
class Cache<T extends Identified> {
  readonly resource: Resource;
  readonly #stores = new Map<string | undefined, Store<T>>();

  constructor(resource: Resource, namespaces: readonly (string | undefined)[], indexes: Indexes<T>) {
    this.resource = resource;
    for (const namespace of namespaces) this.#stores.set(namespace, new Store<T>(indexes));
  }

  get stores(): ReadonlyMap<string | undefined, Store<T>> {
    return this.#stores;
  }

  get(key: Key): T | undefined {
    return this.#store(splitKey(key).namespace)?.get(key);
  }

  byIndex(index: string, value: string): T[] {
    return [...this.#stores.values()].flatMap((store) => store.byIndex(index, value));
  }

  list(): T[] {
    return [...this.#stores.values()].flatMap((store) => store.list());
  }

  /** Newest version seen of the objects of this namespace. */
  resourceVersion(namespace: string | undefined): string | undefined {
    return this.#store(namespace)?.resourceVersion;
  }

  #store(namespace: string | undefined): Store<T> | undefined {
    return this.#stores.get(namespace) ?? this.#stores.get(undefined);
  }
}

export interface CachesOptions {
  /** Empty = all. */
  readonly namespaces: readonly string[];
  /** Whether the cluster serves resource.k8s.io/v1. */
  readonly resourceClaims: boolean;
  /** A deployment to look at again; may be called often for one key. */
  readonly onKey: (key: Key) => void;
}

/** Everything that is known of the cluster without asking it. */
export class Caches {
  readonly deployments: Cache<InternVLDeployment>;
  readonly pods: Cache<V1Pod>;
  readonly #children: ReadonlyMap<string, Cache<ChildObject>>;
  readonly #nodeStore = new Store<V1Node>();
  readonly #nodes = new Map<string, ObservedNode>();
  readonly #onKey: (key: Key) => void;

  constructor(options: CachesOptions) {
    const namespaces = options.namespaces.length === 0 ? [undefined] : options.namespaces;
    this.#onKey = options.onKey;
    this.deployments = new Cache(INTERNVL_DEPLOYMENTS, namespaces, {
      [BY_INSTANCE]: ({ metadata }) => [instanceKey(metadata.namespace, baseName(metadata.name))],
    });
    this.pods = new Cache<V1Pod>(PODS, namespaces, {
      [BY_OWNER]: controllerUids,
      [BY_NODE]: ({ spec }) => (spec?.nodeName === undefined ? [] : [spec.nodeName]),
      [BY_INSTANCE]: (pod) => {
        const instance = pod.metadata?.labels?.[LABELS.deployment];
        return instance === undefined ? [] : [instanceKey(pod.metadata?.namespace, instance)];
      },
    });
    const kinds = CHILD_RESOURCES.filter((kind) => kind !== RESOURCE_CLAIMS || options.resourceClaims);
    this.#children = new Map(
      kinds.map((kind) => [
        kindKey(kind),
        new Cache<ChildObject>(kind, namespaces, { [BY_OWNER]: controllerUids }),
      ]),
    );
  }

  /** What has to be watched for these caches to be true. */
  watches(): WatchSpec[] {
    const managed = `${LABELS.managedBy}=${MANAGER}`;
    const deployments = this.#specs(this.deployments, undefined, ({ metadata }) => [
      instanceOwnKey(metadata.namespace, metadata.name),
    ]);
    const pods = this.#specs(this.pods, managed, (pod) => this.#keysOf(pod), essentialsOfPod);
    const children = [...this.#children.values()].flatMap((cache) =>
      this.#specs(cache, managed, (child) => this.#keysOf(child), withoutStatus),
    );
    return [...deployments, ...pods, ...children, this.#nodeSpec()];
  }

  /** The cached child of this kind and key; undefined also for a kind that is not watched. */
  child(apiVersion: string, kind: string, key: Key): ChildObject | undefined {
    return this.#children.get(kindKey({ apiVersion, kind }))?.get(key);
  }

  /** Children other than pods that the object with this uid controls. */
  childrenOf(uid: string): ChildObject[] {
    return [...this.#children.values()].flatMap((cache) => cache.byIndex(BY_OWNER, uid));
  }

  podsOf(uid: string): V1Pod[] {
    return this.pods.byIndex(BY_OWNER, uid);
  }

  /** Pods that carry the deployment's label, whoever owns them. */
  podsOfInstance(namespace: string | undefined, instance: string): V1Pod[] {
    return this.pods.byIndex(BY_INSTANCE, instanceKey(namespace, instance));
  }

  /** By name; changes as nodes do. */
  get nodes(): ReadonlyMap<string, ObservedNode> {
    return this.#nodes;
  }

  /** Newest version seen of a kind in a namespace; undefined for a kind that is not watched. */
  resourceVersion(
    resource: Pick<Resource, 'apiVersion' | 'kind'>,
    namespace: string | undefined,
  ): string | undefined {
    if (resource.kind === KIND) return this.deployments.resourceVersion(namespace);
    if (resource.kind === PODS.kind) return this.pods.resourceVersion(namespace);
    return this.#children.get(kindKey(resource))?.resourceVersion(namespace);
  }

  #specs<T extends Identified>(
    cache: Cache<T>,
    labelSelector: string | undefined,
    keysOf: (object: T) => readonly Key[],
    keep?: (object: T) => T,
  ): WatchSpec[] {
    return [...cache.stores].map(([namespace, store]) => ({
      resource: cache.resource,
      namespace,
      labelSelector,
      store: store as unknown as Store<Identified>,
      keep: keep as ((object: Identified) => Identified) | undefined,
      onChange: (change) => {
        const keys = new Set(keysOf(change.object as T));
        // Who loses a child is told too.
        if (change.type === 'modified') for (const key of keysOf(change.old as T)) keys.add(key);
        for (const key of keys) this.#onKey(key);
      },
    }));
  }

  #nodeSpec(): WatchSpec {
    return {
      resource: NODES,
      namespace: undefined,
      labelSelector: undefined,
      store: this.#nodeStore,
      keep: (object) => essentialsOfNode(object),
      onChange: (change) => this.#nodeChanged(change),
    };
  }

  /** Kubelets write to their Node every few minutes; only what groups depend on leads anywhere. */
  #nodeChanged(change: Change<V1Node>): void {
    const name = change.object.metadata?.name ?? '';
    const before = this.#nodes.get(name);
    if (change.type === 'removed') this.#nodes.delete(name);
    else this.#nodes.set(name, observedNode(change.object));
    const after = this.#nodes.get(name);
    if (before?.ready === after?.ready && before?.schedulable === after?.schedulable) return;
    for (const pod of this.pods.byIndex(BY_NODE, name)) for (const key of this.#keysOf(pod)) this.#onKey(key);
  }

  /** By the controller's name; a router's pod belongs to a ReplicaSet, so its label tells. */
  #keysOf(object: Identified): readonly Key[] {
    const { namespace, ownerReferences, labels } = (object as ChildObject).metadata;
    const owner = ownerReferences?.find(({ controller }) => controller === true) as
      { kind?: string; name?: string } | undefined;
    if (owner?.kind === KIND && owner.name !== undefined) return [instanceOwnKey(namespace, owner.name)];
    const instance = labels?.[LABELS.deployment];
    if (instance === undefined) return [];
    return this.deployments
      .byIndex(BY_INSTANCE, instanceKey(namespace, instance))
      .map(({ metadata }) => instanceOwnKey(metadata.namespace, metadata.name));
  }
}

function controllerUids(object: Identified): readonly string[] {
  const owners = (object as ChildObject).metadata.ownerReferences ?? [];
  return owners.filter(({ controller }) => controller === true).map(({ uid }) => uid);
}

function instanceKey(namespace: string | undefined, instance: string): string {
  return `${namespace ?? ''}/${instance}`;
}

function instanceOwnKey(namespace: string | undefined, name: string): Key {
  return namespace === undefined ? name : `${namespace}/${name}`;
}

function kindKey({ apiVersion, kind }: Pick<Resource, 'apiVersion' | 'kind'>): string {
  return `${apiVersion}/${kind}`;
}

function observedNode(node: V1Node): ObservedNode {
  const condition = node.status?.conditions?.find(({ type }) => type === 'Ready');
  const ready = condition?.status === 'True';
  const since = Date.parse(String(condition?.lastTransitionTime));
  return {
    ready,
    schedulable: node.spec?.unschedulable !== true,
    ...(!ready && Number.isFinite(since) && { notReadySince: since }),
  };
}

/** What groups are read from: what a pod was made from is known by its revision, and most of a pod is that. */
export function essentialsOfPod(pod: V1Pod): V1Pod {
  const { metadata = {}, spec, status = {} } = pod;
  const { annotations, ...own } = metadata;
  const drain = annotations?.[ANNOTATIONS.drain];
  const { phase, reason, message, startTime, conditions = [], containerStatuses = [] } = status;
  return {
    ...(pod.apiVersion !== undefined && { apiVersion: pod.apiVersion }),
    ...(pod.kind !== undefined && { kind: pod.kind }),
    metadata: { ...own, ...(drain !== undefined && { annotations: { [ANNOTATIONS.drain]: drain } }) },
    spec: (spec?.nodeName === undefined ? {} : { nodeName: spec.nodeName }) as V1PodSpec,
    status: {
      ...(phase !== undefined && { phase }),
      ...(reason !== undefined && { reason }),
      ...(message !== undefined && { message }),
      ...(startTime !== undefined && { startTime }),
      conditions,
      containerStatuses: containerStatuses.map(({ name, state }) => ({ name, state }) as V1ContainerStatus),
    },
  };
}

/** How other controllers fare with a child decides nothing. */
function withoutStatus(child: ChildObject): ChildObject {
  const { status: _, ...rest } = child;
  return rest;
}

/** A Node lists its images and is large; a cluster has thousands of them. */
function essentialsOfNode(node: V1Node): V1Node {
  const { name, uid, resourceVersion } = node.metadata ?? {};
  const ready = node.status?.conditions?.filter(({ type }) => type === 'Ready') ?? [];
  return {
    metadata: { name: name ?? '', uid: uid ?? '', resourceVersion: resourceVersion ?? '' },
    spec: { unschedulable: node.spec?.unschedulable === true },
    status: { conditions: ready },
  };
}
