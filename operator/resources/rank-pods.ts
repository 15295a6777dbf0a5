// The pods of one replica. Their args are the runtime's flags; nothing else reaches a rank.
import type { V1Container, V1Pod, V1PodSpec, V1ResourceRequirements } from '@kubernetes/client-node';
import type { InternVLDeployment } from '../../gen/crd/internvl-deployment.ts';
import { COMPONENTS, LABELS, MODEL_MOUNT, PORTS, PROGRAMS } from '../api.ts';
import { rankName, ranksServiceName, replicaName } from '../names.ts';
import { bytesOf, millisecondsOf } from '../quantity.ts';
import { componentLabels, ownerReferences } from './labels.ts';
import { livenessProbe } from './liveness-probe.ts';
import { modelVolume } from './model-volume.ts';

export interface ReplicaPlace {
  readonly revision: string;
  readonly replica: number;
  readonly namespace: string;
  readonly image: string;
}

/** A rank's pods: one for each rank, or one with all ranks as containers. */
export function rankPods(deployment: InternVLDeployment, place: ReplicaPlace): V1Pod[] {
  const { size, topology } = deployment.spec.tensorParallel;
  const ranks = Array.from({ length: size }, (_, rank) => rank);
  if (topology === 'SinglePod') {
    const containers = ranks.map((rank) => rankContainer(deployment, place, rank, rank));
    return [
      pod(
        deployment,
        place,
        replicaName(deployment.metadata.name, place.revision, place.replica),
        containers,
      ),
    ];
  }
  return ranks.map((rank) => {
    const name = rankName(deployment.metadata.name, place.revision, place.replica, rank);
    return pod(deployment, place, name, [rankContainer(deployment, place, rank, 0)], rank);
  });
}

/** HOST:PORT at which other pods reach a rank's gRPC server. */
export function rankAddress(deployment: InternVLDeployment, place: ReplicaPlace, rank: number): string {
  const { name } = deployment.metadata;
  const single = deployment.spec.tensorParallel.topology === 'SinglePod';
  const host = single
    ? replicaName(name, place.revision, place.replica)
    : rankName(name, place.revision, place.replica, rank);
  const port = PORTS.grpc + (single ? rank : 0);
  return `${host}.${ranksServiceName(name)}.${place.namespace}.svc:${port}`;
}

function pod(
  deployment: InternVLDeployment,
  place: ReplicaPlace,
  name: string,
  containers: V1Container[],
  rank?: number,
): V1Pod {
  const { spec } = deployment;
  const { volume } = modelVolume(deployment);
  const podSpec: V1PodSpec = {
    hostname: name,
    subdomain: ranksServiceName(deployment.metadata.name),
    // A rank alone cannot rejoin its group, so the kubelet must not restart it: the group is replaced as one.
    restartPolicy: 'Never',
    terminationGracePeriodSeconds: Math.ceil(millisecondsOf(spec.rollout.drainTimeout) / 1000) + 10,
    automountServiceAccountToken: false,
    enableServiceLinks: false,
    securityContext: { runAsNonRoot: true, seccompProfile: { type: 'RuntimeDefault' } },
    containers,
    volumes: [volume],
    ...(spec.nodeSelector && { nodeSelector: spec.nodeSelector }),
    ...(spec.tolerations && { tolerations: spec.tolerations }),
    ...(spec.priorityClassName !== undefined && { priorityClassName: spec.priorityClassName }),
    ...(spec.imagePullSecrets && { imagePullSecrets: spec.imagePullSecrets }),
  };
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      name,
      namespace: place.namespace,
      labels: {
        ...componentLabels(deployment, COMPONENTS.runtime),
        [LABELS.revision]: place.revision,
        [LABELS.replica]: String(place.replica),
        ...(rank !== undefined && { [LABELS.rank]: String(rank) }),
      },
      ...ownerReferences(deployment),
    },
    spec: podSpec,
  };
}

/** `slot`: the container's place in its pod, by which its ports are told apart. */
function rankContainer(
  deployment: InternVLDeployment,
  place: ReplicaPlace,
  rank: number,
  slot: number,
): V1Container {
  const grpc = PORTS.grpc + slot;
  const metrics = PORTS.metrics + slot;
  const { subPath } = modelVolume(deployment);
  return {
    name: `rank-${rank}`,
    image: place.image,
    command: [PROGRAMS.runtime],
    args: rankArgs(deployment, place, rank, { grpc, metrics }),
    env: [
      { name: 'POD_IP', valueFrom: { fieldRef: { fieldPath: 'status.podIP' } } },
      // Memory belongs to weights and KV cache: few malloc arenas, a small young generation. Both are read at process start only.
      { name: 'MALLOC_ARENA_MAX', value: '2' },
      { name: 'NODE_OPTIONS', value: '--max-semi-space-size=2' },
    ],
    ports: [
      { name: slot === 0 ? 'grpc' : `grpc-${slot}`, containerPort: grpc },
      { name: slot === 0 ? 'metrics' : `metrics-${slot}`, containerPort: metrics },
    ],
    readinessProbe: { grpc: { port: grpc }, periodSeconds: 5, timeoutSeconds: 2 },
    livenessProbe: livenessProbe(metrics),
    resources: rankResources(deployment),
    securityContext: {
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ['ALL'] },
    },
    volumeMounts: [
      { name: 'model', mountPath: MODEL_MOUNT, readOnly: true, ...(subPath !== undefined && { subPath }) },
    ],
  };
}

function rankArgs(
  deployment: InternVLDeployment,
  place: ReplicaPlace,
  rank: number,
  ports: { grpc: number; metrics: number },
): string[] {
  const { engine, model, tensorParallel } = deployment.spec;
  const addresses = Array.from({ length: tensorParallel.size }, (_, r) => rankAddress(deployment, place, r));
  return flags({
    model: MODEL_MOUNT,
    'served-name': model.servedName ?? deployment.metadata.name,
    rank,
    'world-size': tensorParallel.size,
    ranks: addresses.join(','),
    listen: `0.0.0.0:${ports.grpc}`,
    'metrics-listen': `0.0.0.0:${ports.metrics}`,
    'collective-host': '$(POD_IP)',
    dtype: engine.dtype === 'auto' ? 'bfloat16' : engine.dtype,
    'max-model-length': engine.maxModelLength,
    'max-sequences': engine.maxSequences,
    'max-batched-tokens': engine.maxBatchedTokens,
    'kv-cache-bytes': engine.kvCache?.bytes === undefined ? undefined : bytesOf(engine.kvCache.bytes),
    'kv-cache-fraction': engine.kvCache?.fraction,
    'max-images': engine.limits.maxImages,
    'max-image-bytes': bytesOf(engine.limits.maxImageBytes),
  });
}

function rankResources(deployment: InternVLDeployment): V1ResourceRequirements {
  const { resources, device } = deployment.spec;
  const limits = { ...resources?.limits, ...(device && { [device.resourceName]: 1 }) };
  return {
    ...(resources?.requests && { requests: quantities(resources.requests) }),
    ...(Object.keys(limits).length > 0 && { limits: quantities(limits) }),
  };
}

/** Kubernetes writes quantities as strings; numbers of a manifest would differ from what the API server gives back. */
export function quantities(values: Readonly<Record<string, number | string>>): Record<string, string> {
  return Object.fromEntries(Object.entries(values).map(([name, value]) => [name, String(value)]));
}

/** `--name value` for each value that is given. */
export function flags(values: Readonly<Record<string, string | number | undefined>>): string[] {
  return Object.entries(values).flatMap(([name, value]) =>
    value === undefined ? [] : [`--${name}`, String(value)],
  );
}
