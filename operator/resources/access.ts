// Who the pods are and what they may do: ranks nothing, routers see pods and write their own report.
import type { V1ConfigMap, V1Role, V1RoleBinding, V1ServiceAccount } from '@kubernetes/client-node';
import { COMPONENTS } from '../api.ts';
import { ranksAccountName, routerAccountName, routersConfigMapName } from '../names.ts';
import { childMetadata, type Owner } from './labels.ts';

export function ranksAccount(owner: Owner): V1ServiceAccount {
  return account(owner, ranksAccountName(owner.metadata.name), COMPONENTS.runtime);
}

export function routerAccount(owner: Owner): V1ServiceAccount {
  return account(owner, routerAccountName(owner.metadata.name), COMPONENTS.router);
}

/** Tokens are mounted where a pod asks for one, which the router's alone does. */
function account(owner: Owner, name: string, component: string): V1ServiceAccount {
  return {
    apiVersion: 'v1',
    kind: 'ServiceAccount',
    metadata: childMetadata(owner, name, component),
    automountServiceAccountToken: false,
  };
}

/** Pods cannot be limited to a label; ConfigMaps are limited to the one of the reports. */
export function routerRole(owner: Owner): V1Role {
  const { name } = owner.metadata;
  return {
    apiVersion: 'rbac.authorization.k8s.io/v1',
    kind: 'Role',
    metadata: childMetadata(owner, routerAccountName(name), COMPONENTS.router),
    rules: [
      { apiGroups: [''], resources: ['pods'], verbs: ['get', 'list', 'watch'] },
      {
        apiGroups: [''],
        resources: ['configmaps'],
        resourceNames: [routersConfigMapName(name)],
        verbs: ['get', 'patch'],
      },
    ],
  };
}

export function routerRoleBinding(owner: Owner): V1RoleBinding {
  const account = routerAccountName(owner.metadata.name);
  const metadata = childMetadata(owner, account, COMPONENTS.router);
  return {
    apiVersion: 'rbac.authorization.k8s.io/v1',
    kind: 'RoleBinding',
    metadata,
    roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'Role', name: account },
    subjects: [{ kind: 'ServiceAccount', name: account, namespace: metadata.namespace }],
  };
}

/** Where routers report. No `data` here: each key belongs to the router that applied it. */
export function reportConfigMap(owner: Owner): V1ConfigMap {
  return {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: childMetadata(owner, routersConfigMapName(owner.metadata.name), COMPONENTS.reports),
  };
}
