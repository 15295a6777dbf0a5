import type { V1OwnerReference } from '@kubernetes/client-node';
import type { InternVLDeployment } from '../../gen/crd/internvl-deployment.ts';
import { API_VERSION, APP_NAME, KIND, LABELS, MANAGER } from '../api.ts';
import { baseName } from '../names.ts';

/** Labels that all children of one component share; also what Services and Deployments select by. */
export function componentLabels(deployment: InternVLDeployment, component: string): Record<string, string> {
  const instance = baseName(deployment.metadata.name);
  return {
    [LABELS.name]: APP_NAME,
    [LABELS.instance]: instance,
    [LABELS.component]: component,
    [LABELS.managedBy]: MANAGER,
    [LABELS.deployment]: instance,
  };
}

/** The deployment as controller of a child, so that deleting it deletes the child; nothing before the API server has given it a uid. */
export function ownerReferences(deployment: InternVLDeployment): { ownerReferences?: V1OwnerReference[] } {
  const { name, uid } = deployment.metadata;
  if (uid === undefined) return {};
  return {
    ownerReferences: [
      { apiVersion: API_VERSION, kind: KIND, name, uid, controller: true, blockOwnerDeletion: true },
    ],
  };
}
