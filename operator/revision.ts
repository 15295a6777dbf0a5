import type { InternVLDeployment } from '../gen/crd/internvl-deployment.ts';
import { shortHash } from './names.ts';

/**
 * Hash of the spec's parts that rank pods are made from. Equal for equal meaning: keys in any order, absent optional parts or empty ones.
 * Replica count, router and rollout settings are not in it: changing those restarts no rank.
 */
export function revisionOf(deployment: InternVLDeployment): string {
  const { model, tensorParallel, engine, resources, device, nodeSelector, tolerations } = deployment.spec;
  const { priorityClassName, image, imagePullSecrets } = deployment.spec;
  // The served name's default is the object's own name, which never changes; interconnect is a demand on the cluster, not on the pods.
  const { size, topology } = tensorParallel;
  const relevant = {
    model,
    tensorParallel: { size, topology },
    engine,
    resources,
    device,
    nodeSelector,
    tolerations,
    priorityClassName,
    image,
    imagePullSecrets,
  };
  return shortHash(JSON.stringify(normalise(relevant)));
}

function normalise(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(normalise);
  if (typeof value !== 'object' || value === null) return value;
  const entries = Object.entries(value)
    .map(([key, child]) => [key, normalise(child)] as const)
    .filter(([, child]) => child !== undefined && !isEmpty(child))
    .toSorted(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
  return Object.fromEntries(entries);
}

function isEmpty(value: unknown): boolean {
  return typeof value === 'object' && value !== null && Object.keys(value).length === 0;
}
