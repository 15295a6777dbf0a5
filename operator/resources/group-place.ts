import { PORTS } from '../api.ts';
import { rankName, ranksServiceName, replicaName } from '../names.ts';
import type { RevisionTemplate } from '../revision.ts';
import type { Owner } from './labels.ts';

/** Which group of which deployment, and which nodes its next attempt keeps away from. */
export interface GroupPlace {
  readonly deployment: {
    readonly name: string;
    readonly namespace: string;
    readonly uid?: string | undefined;
  };
  readonly revision: string;
  readonly index: number;
  readonly avoidNodes?: readonly string[];
  /** The group is to end where its ranks do not reach each other directly. Not of the revision: to demand it changes no pod that is there. */
  readonly interconnectRequired?: boolean;
}

/** Name of the group: start of its pods' names, value of its label, name of its claim. */
export function groupName(place: GroupPlace): string {
  return replicaName(place.deployment.name, place.revision, place.index);
}

/** The group's deployment as owner of its children. */
export function ownerOf(place: GroupPlace): Owner {
  return { metadata: place.deployment };
}

/** Name and host name of the pod that a rank is in. */
export function podName(template: RevisionTemplate, place: GroupPlace, rank: number): string {
  return template.spec.tensorParallel.topology === 'SinglePod'
    ? groupName(place)
    : rankName(place.deployment.name, place.revision, place.index, rank);
}

/** HOST:PORT at which other pods reach a rank's gRPC server. */
export function rankAddress(template: RevisionTemplate, place: GroupPlace, rank: number): string {
  const { name, namespace } = place.deployment;
  const port = PORTS.grpc + (template.spec.tensorParallel.topology === 'SinglePod' ? rank : 0);
  return `${podName(template, place, rank)}.${ranksServiceName(name)}.${namespace}.svc:${port}`;
}
