import { COMPONENTS, LABELS } from '../api.ts';
import { resourceClaimName } from '../names.ts';
import type { ChildObject } from '../observed.ts';
import type { RevisionTemplate } from '../revision.ts';
import { ownerOf, type GroupPlace } from './group-place.ts';
import { childMetadata } from './labels.ts';

/** Name of the claim and of its request inside pods. */
export const CLAIM = 'devices';

/** One claim for all devices of a group: every rank is granted all of them and uses one. Undefined without a device class. */
export function resourceClaim(template: RevisionTemplate, place: GroupPlace): ChildObject | undefined {
  const deviceClassName = template.spec.device?.deviceClassName;
  if (deviceClassName === undefined) return undefined;
  const name = resourceClaimName(place.deployment.name, place.revision, place.index);
  const metadata = childMetadata(ownerOf(place), name, COMPONENTS.runtime);
  const labels = {
    ...metadata.labels,
    [LABELS.revision]: place.revision,
    [LABELS.replica]: String(place.index),
    [LABELS.group]: name,
  };
  const exactly = {
    deviceClassName,
    allocationMode: 'ExactCount',
    count: template.spec.tensorParallel.size,
  };
  return {
    apiVersion: 'resource.k8s.io/v1',
    kind: 'ResourceClaim',
    metadata: { ...metadata, labels },
    spec: { devices: { requests: [{ name: CLAIM, exactly }] } },
  };
}
