// The built-in kinds that are used, as the API's paths name them. Names of client-node's models are not needed: a path and a kind say all.
import type { Resource } from './object.ts';

function resource(apiVersion: string, kind: string, plural: string, namespaced = true): Resource {
  return { apiVersion, kind, plural, namespaced };
}

export const PODS = resource('v1', 'Pod', 'pods');
export const SERVICES = resource('v1', 'Service', 'services');
export const CONFIG_MAPS = resource('v1', 'ConfigMap', 'configmaps');
export const SECRETS = resource('v1', 'Secret', 'secrets');
export const SERVICE_ACCOUNTS = resource('v1', 'ServiceAccount', 'serviceaccounts');
export const PERSISTENT_VOLUME_CLAIMS = resource('v1', 'PersistentVolumeClaim', 'persistentvolumeclaims');
export const EVENTS = resource('v1', 'Event', 'events');
export const NODES = resource('v1', 'Node', 'nodes', false);
export const NAMESPACES = resource('v1', 'Namespace', 'namespaces', false);
export const DEPLOYMENTS = resource('apps/v1', 'Deployment', 'deployments');
export const ROLES = resource('rbac.authorization.k8s.io/v1', 'Role', 'roles');
export const ROLE_BINDINGS = resource('rbac.authorization.k8s.io/v1', 'RoleBinding', 'rolebindings');
export const PDBS = resource('policy/v1', 'PodDisruptionBudget', 'poddisruptionbudgets');
export const NETWORK_POLICIES = resource('networking.k8s.io/v1', 'NetworkPolicy', 'networkpolicies');
export const LEASES = resource('coordination.k8s.io/v1', 'Lease', 'leases');
export const RESOURCE_CLAIMS = resource('resource.k8s.io/v1', 'ResourceClaim', 'resourceclaims');
export const ENDPOINT_SLICES = resource('discovery.k8s.io/v1', 'EndpointSlice', 'endpointslices');
export const CRDS = resource(
  'apiextensions.k8s.io/v1',
  'CustomResourceDefinition',
  'customresourcedefinitions',
  false,
);
