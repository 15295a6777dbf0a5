import type { V1OwnerReference } from '@kubernetes/client-node';
import { API_VERSION, APP_NAME, KIND, LABELS, MANAGER } from '../api.ts';
import { baseName } from '../names.ts';

/** Who a child belongs to. */
export interface Owner {
  readonly metadata: {
    readonly name: string;
    readonly namespace?: string | undefined;
    /** Absent before the API server has given one. */
    readonly uid?: string | undefined;
  };
}

/** Labels that all children of one component share; also what Services and Deployments select by. */
export function componentLabels(owner: Owner, component: string): Record<string, string> {
  const instance = baseName(owner.metadata.name);
  return {
    [LABELS.name]: APP_NAME,
    [LABELS.instance]: instance,
    [LABELS.component]: component,
    [LABELS.managedBy]: MANAGER,
    [LABELS.deployment]: instance,
  };
}

/** The deployment as controller of a child, so that deleting it deletes the child; nothing before the API server has given it a uid. */
export function ownerReferences(owner: Owner): { ownerReferences?: V1OwnerReference[] } {
  const { name, uid } = owner.metadata;
  if (uid === undefined) return {};
  return {
    ownerReferences: [
      { apiVersion: API_VERSION, kind: KIND, name, uid, controller: true, blockOwnerDeletion: true },
    ],
  };
}

/** Metadata of a child of one component. */
export function childMetadata(owner: Owner, name: string, component: string) {
  return {
    name,
    namespace: owner.metadata.namespace ?? 'default',
    labels: componentLabels(owner, component),
    ...ownerReferences(owner),
  };
}
