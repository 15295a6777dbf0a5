// A revision is one state of what rank pods are made from. Its name is a hash of the spec alone: an operator with other default images or
// another way of making pods sees the same revisions, so its upgrade restarts nothing.
import type { InternVLDeployment } from '../gen/crd/internvl-deployment.ts';
import { shortHash } from './names.ts';
import { quantities } from './quantity.ts';

type Spec = InternVLDeployment['spec'];

/** Parts of the spec that reach a rank pod. Whoever adds a field with a default to one of them changes the hash of every deployment. */
const POD_FIELDS = [
  'model',
  'tensorParallel',
  'engine',
  'resources',
  'device',
  'nodeSelector',
  'tolerations',
  'affinity',
  'priorityClassName',
  'podTemplate',
  'imagePullPolicy',
  'imagePullSecrets',
] as const satisfies readonly (keyof Spec)[];

/** All that the pods of a revision's groups are made from: written down once, when the revision is first seen, and never changed. */
export interface RevisionTemplate {
  /** Of this shape; readers refuse others. */
  readonly version: 1;
  readonly servedName: string;
  /** The spec's image, or the operator's default at the time of writing. */
  readonly image: string;
  readonly spec: Pick<Spec, (typeof POD_FIELDS)[number]>;
}

/** The template of the deployment's spec as it is now. */
export function revisionTemplate(
  deployment: InternVLDeployment,
  config: { readonly runtimeImage: string },
): RevisionTemplate {
  const { spec, metadata } = deployment;
  const fields = POD_FIELDS.flatMap((field) => (spec[field] === undefined ? [] : [[field, spec[field]]]));
  return {
    version: 1,
    servedName: spec.model.servedName ?? metadata.name,
    image: spec.image ?? config.runtimeImage,
    spec: Object.fromEntries(fields) as RevisionTemplate['spec'],
  };
}

/**
 * Hash of the spec's parts that rank pods are made from. Equal for equal meaning: keys in any order, absent optional parts or empty ones.
 * Replica count, router and rollout settings are not in it: changing those restarts no rank.
 */
export function revisionOf(deployment: InternVLDeployment): string {
  const { spec } = deployment;
  const { size, topology, interconnect } = spec.tensorParallel;
  const { resources } = spec;
  // The served name's default is the object's own name, which never changes.
  const relevant = {
    ...Object.fromEntries(POD_FIELDS.map((field) => [field, spec[field]])),
    // Of the demands on the interconnect, only Any changes a pod: it lifts the bond to one node.
    tensorParallel: { size, topology, ...(interconnect === 'Any' && { interconnect }) },
    resources: resources && {
      requests: quantities(resources.requests ?? {}),
      limits: quantities(resources.limits ?? {}),
    },
    image: spec.image,
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
