// What the operator may do, least rights: the chart's Roles are checked against these lists. A Role can only be granted by who holds all of it, so
// the router's (pods get/list/watch, configmaps get/patch) is a part of the operator's own and neither `escalate` nor `bind` is needed.
import { API_GROUP, PLURAL } from './api.ts';

export interface PolicyRule {
  readonly apiGroups: readonly string[];
  readonly resources: readonly string[];
  readonly verbs: readonly string[];
  readonly resourceNames?: readonly string[];
}

const READ = ['get', 'list', 'watch'];
/** Server-side apply: patch, and create for what is not there yet. */
const APPLY = [...READ, 'create', 'patch'];

/** In a ClusterRole, always: where pods are and whether those nodes live. */
export const CLUSTER_RULES: readonly PolicyRule[] = [{ apiGroups: [''], resources: ['nodes'], verbs: READ }];

/** In a ClusterRole when all namespaces are watched, otherwise in a Role of each watched namespace. */
export const NAMESPACED_RULES: readonly PolicyRule[] = [
  { apiGroups: [API_GROUP], resources: [PLURAL], verbs: READ },
  { apiGroups: [API_GROUP], resources: [`${PLURAL}/status`], verbs: ['patch'] },
  // Asked for by clusters that let only those block an owner's deletion who could do so themselves.
  { apiGroups: [API_GROUP], resources: [`${PLURAL}/finalizers`], verbs: ['update'] },
  { apiGroups: [''], resources: ['pods'], verbs: [...APPLY, 'delete'] },
  { apiGroups: [''], resources: ['pods/status'], verbs: ['patch'] },
  { apiGroups: [''], resources: ['configmaps'], verbs: [...APPLY, 'delete'] },
  { apiGroups: [''], resources: ['services', 'serviceaccounts'], verbs: APPLY },
  { apiGroups: [''], resources: ['events'], verbs: ['create', 'patch'] },
  { apiGroups: ['apps'], resources: ['deployments'], verbs: APPLY },
  { apiGroups: ['rbac.authorization.k8s.io'], resources: ['roles', 'rolebindings'], verbs: APPLY },
  { apiGroups: ['policy'], resources: ['poddisruptionbudgets'], verbs: [...APPLY, 'delete'] },
  { apiGroups: ['networking.k8s.io'], resources: ['networkpolicies'], verbs: [...APPLY, 'delete'] },
  { apiGroups: ['resource.k8s.io'], resources: ['resourceclaims'], verbs: [...APPLY, 'delete'] },
];

/** In a Role of the operator's own namespace. `create` cannot be limited to a name. */
export function leaseRules(leaseName: string): readonly PolicyRule[] {
  const lease = { apiGroups: ['coordination.k8s.io'], resources: ['leases'] };
  return [
    { ...lease, verbs: ['create'] },
    { ...lease, verbs: ['get', 'update'], resourceNames: [leaseName] },
  ];
}

/** All rules, by where they are bound. */
export const OPERATOR_RULES = {
  cluster: CLUSTER_RULES,
  namespaced: NAMESPACED_RULES,
  lease: leaseRules('internvl-operator'),
} as const;
