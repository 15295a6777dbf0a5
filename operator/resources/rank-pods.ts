// The pods of one group, made from its revision's template alone.
import type { V1Container, V1Pod, V1PodSpec } from '@kubernetes/client-node';
import { COMPONENTS, LABELS, ROUTER_ACKNOWLEDGED } from '../api.ts';
import { ranksAccountName, ranksServiceName, resourceClaimName } from '../names.ts';
import type { RevisionTemplate } from '../revision.ts';
import { groupName, ownerOf, podName, type GroupPlace } from './group-place.ts';
import { childMetadata } from './labels.ts';
import { modelVolume } from './model-volume.ts';
import { affinity, tolerations } from './placement.ts';
import { POD_SECURITY } from './pod-security.ts';
import { RANK_DRAIN_SECONDS, rankContainer } from './rank-container.ts';
import { scratchVolumes } from './rank-devices.ts';
import { CLAIM } from './resource-claim.ts';

const GRACE_MARGIN_SECONDS = 10;

/** One pod for each rank, or one with all ranks as containers; throws UnsupportedSource. */
export function rankPods(template: RevisionTemplate, place: GroupPlace): V1Pod[] {
  const { size, topology } = template.spec.tensorParallel;
  const ranks = Array.from({ length: size }, (_, rank) => rank);
  if (topology === 'SinglePod') {
    const containers = ranks.map((rank) => rankContainer(template, place, rank, rank));
    return [pod(template, place, 0, containers)];
  }
  return ranks.map((rank) => pod(template, place, rank, [rankContainer(template, place, rank, 0)]));
}

/** `rank`: the first that the pod holds. */
function pod(template: RevisionTemplate, place: GroupPlace, rank: number, containers: V1Container[]): V1Pod {
  const { podTemplate, tensorParallel } = template.spec;
  const name = podName(template, place, rank);
  const metadata = childMetadata(ownerOf(place), name, COMPONENTS.runtime);
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      ...metadata,
      labels: {
        ...podTemplate?.labels,
        ...metadata.labels,
        [LABELS.revision]: place.revision,
        [LABELS.replica]: String(place.index),
        [LABELS.group]: groupName(place),
        ...(tensorParallel.topology === 'PodPerRank' && { [LABELS.rank]: String(rank) }),
      },
      ...(podTemplate?.annotations && { annotations: podTemplate.annotations }),
    },
    spec: podSpec(template, place, { name, rank, containers }),
  };
}

function podSpec(
  template: RevisionTemplate,
  place: GroupPlace,
  { name, rank, containers }: { name: string; rank: number; containers: V1Container[] },
): V1PodSpec {
  const { spec } = template;
  const { volume } = modelVolume(spec.model.source);
  const where = affinity(template, place);
  return {
    hostname: name,
    subdomain: ranksServiceName(place.deployment.name),
    // A rank alone cannot rejoin its group, so the kubelet must not restart it: the group is replaced as one.
    restartPolicy: 'Never',
    terminationGracePeriodSeconds: RANK_DRAIN_SECONDS + GRACE_MARGIN_SECONDS,
    serviceAccountName: ranksAccountName(place.deployment.name),
    automountServiceAccountToken: false,
    enableServiceLinks: false,
    securityContext: POD_SECURITY,
    // Ready means that a router has had an answer from the whole group, and rank 0 is whom it asks.
    ...(rank === 0 && { readinessGates: [{ conditionType: ROUTER_ACKNOWLEDGED }] }),
    containers,
    volumes: [volume, ...scratchVolumes(template).volumes],
    tolerations: tolerations(template),
    ...(where && { affinity: where }),
    ...(spec.device?.deviceClassName !== undefined && {
      resourceClaims: [
        {
          name: CLAIM,
          resourceClaimName: resourceClaimName(place.deployment.name, place.revision, place.index),
        },
      ],
    }),
    ...(spec.nodeSelector && { nodeSelector: spec.nodeSelector }),
    ...(spec.priorityClassName !== undefined && { priorityClassName: spec.priorityClassName }),
    ...(spec.podTemplate?.runtimeClassName !== undefined && {
      runtimeClassName: spec.podTemplate.runtimeClassName,
    }),
    ...(spec.imagePullSecrets && { imagePullSecrets: spec.imagePullSecrets }),
  };
}

export { rankAddress } from './group-place.ts';
