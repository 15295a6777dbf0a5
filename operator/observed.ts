// What is seen of one deployment, as plain data: what the planner decides from and the status is told from. Tests write it as literals.
import type { V1ConfigMap, V1Pod } from '@kubernetes/client-node';
import type { InterconnectReport } from './interconnect-report.ts';
import type { ManagedFields } from './kube/managed-fields.ts';

/** A child as it is in the cache, whatever its kind. */
export interface ChildObject {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: {
    readonly name: string;
    readonly namespace?: string;
    readonly uid?: string;
    readonly resourceVersion?: string;
    readonly labels?: Readonly<Record<string, string>>;
    readonly annotations?: Readonly<Record<string, string>>;
    readonly deletionTimestamp?: string;
    readonly ownerReferences?: readonly OwnerReference[];
    /** Of what was read from the API server itself; caches leave it out. */
    readonly managedFields?: readonly ManagedFields[];
  };
  readonly [field: string]: unknown;
}

export interface OwnerReference {
  readonly uid: string;
  readonly controller?: boolean;
  readonly apiVersion?: string;
  readonly kind?: string;
  readonly name?: string;
}

export interface ObservedNode {
  /** Condition Ready is True. */
  readonly ready: boolean;
  /** Since when it is not, in ms. */
  readonly notReadySince?: number;
  /** Not cordoned. */
  readonly schedulable: boolean;
}

/** What one router says of one group. `podUid` is rank 0's: a report about an older pod of the same name counts for nothing. */
export interface ReplicaReport {
  readonly podUid: string;
  readonly state: 'connecting' | 'probing' | 'ready' | 'draining' | 'drained' | 'ejected' | 'incompatible';
  readonly message: string;
  /** For draining and drained: the value of the drain annotation that it is about, so that a word about an earlier drain counts for nothing. */
  readonly drain?: string;
  /** Absent while it was not measured, or where there is nothing to measure. */
  readonly interconnect?: InterconnectReport;
}

/** What one router pod wrote into the report ConfigMap under its own name. */
export interface RouterReport {
  /** Name and uid of the router pod; reports of pods that no longer exist are dropped by observe.ts. */
  readonly router: string;
  readonly routerUid: string;
  /** By group name. */
  readonly replicas: Readonly<Record<string, ReplicaReport>>;
}

export interface UnmadeGroup {
  /** When that began, in ms. */
  readonly since: number;
  readonly message: string;
  /** The API server says no (quota, admission); otherwise it did not answer as it should. */
  readonly refused: boolean;
}

export interface Observed {
  /** Rank pods of every revision, terminating ones included. Dates are RFC 3339 strings, as the API server sends them. */
  readonly pods: readonly V1Pod[];
  readonly routerPods: readonly V1Pod[];
  readonly reports: readonly RouterReport[];
  /** Revision ConfigMaps (names.ts revisionConfigMapName); what groups of older revisions are made from. */
  readonly revisions: readonly V1ConfigMap[];
  /** The failures ConfigMap, absent until the first failure. */
  readonly failures: V1ConfigMap | undefined;
  /** Nodes by name. A pod's node that is not in it is gone. */
  readonly nodes: ReadonlyMap<string, ObservedNode>;
  /** All other children that the deployment controls (Services, the router's Deployment, claims, …). */
  readonly children: readonly ChildObject[];
  /** Groups, by name, of which this process could not create all pods or the claim yet. Of other groups with pods missing those were deleted. */
  readonly unmade?: ReadonlyMap<string, UnmadeGroup>;
}

export const NOTHING_OBSERVED: Observed = {
  pods: [],
  routerPods: [],
  reports: [],
  revisions: [],
  failures: undefined,
  nodes: new Map(),
  children: [],
};
