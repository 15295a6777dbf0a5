import type { V1Container, V1ResourceRequirements } from '@kubernetes/client-node';
import { MODEL_MOUNT, PORTS, PROGRAMS } from '../api.ts';
import { bytesOf, quantities } from '../quantity.ts';
import type { RevisionTemplate } from '../revision.ts';
import { flags } from './flags.ts';
import { rankAddress, type GroupPlace } from './group-place.ts';
import { modelVolume } from './model-volume.ts';
import { CONTAINER_SECURITY } from './pod-security.ts';
import { livenessProbe, startupProbe } from './probes.ts';
import { deviceEnvironment, scratchVolumes } from './rank-devices.ts';
import { CLAIM } from './resource-claim.ts';

/** How long a rank that is told to stop finishes what it computes; its pod's grace period is longer. */
export const RANK_DRAIN_SECONDS = 30;

/** The container of one rank. `slot` is its place in its pod, by which its ports are told apart. Its args are all that reaches the rank. */
export function rankContainer(
  template: RevisionTemplate,
  place: GroupPlace,
  rank: number,
  slot: number,
): V1Container {
  const grpc = PORTS.grpc + slot;
  const metrics = PORTS.metrics + slot;
  const { podTemplate, imagePullPolicy, model } = template.spec;
  const { subPath } = modelVolume(model.source);
  return {
    name: `rank-${rank}`,
    image: template.image,
    ...(imagePullPolicy !== undefined && { imagePullPolicy }),
    command: [PROGRAMS.runtime],
    args: rankArgs(template, place, rank, { grpc, metrics }),
    env: [
      { name: 'POD_IP', valueFrom: { fieldRef: { fieldPath: 'status.podIP' } } },
      ...memorySettings(podTemplate?.env ?? []),
      ...deviceEnvironment(template, place, rank),
      ...(podTemplate?.env ?? []),
    ],
    ports: [
      { name: slot === 0 ? 'grpc' : `grpc-${slot}`, containerPort: grpc },
      { name: slot === 0 ? 'metrics' : `metrics-${slot}`, containerPort: metrics },
    ],
    startupProbe: startupProbe(metrics),
    readinessProbe: { grpc: { port: grpc }, periodSeconds: 2, timeoutSeconds: 2 },
    livenessProbe: livenessProbe(metrics),
    resources: rankResources(template),
    securityContext: CONTAINER_SECURITY,
    // The last lines of a rank that died are the evidence that the status shows.
    terminationMessagePolicy: 'FallbackToLogsOnError',
    volumeMounts: [
      { name: 'model', mountPath: MODEL_MOUNT, readOnly: true, ...(subPath !== undefined && { subPath }) },
      ...scratchVolumes(template).mounts,
    ],
  };
}

/** Memory belongs to weights and KV cache: few malloc arenas, a small young generation. Both are read at process start only. */
function memorySettings(asked: readonly { readonly name: string }[]) {
  return [
    { name: 'MALLOC_ARENA_MAX', value: '2' },
    { name: 'NODE_OPTIONS', value: '--max-semi-space-size=2' },
  ].filter(({ name }) => !asked.some((variable) => variable.name === name));
}

function rankArgs(
  template: RevisionTemplate,
  place: GroupPlace,
  rank: number,
  ports: { grpc: number; metrics: number },
): string[] {
  const { engine, tensorParallel } = template.spec;
  const addresses = Array.from({ length: tensorParallel.size }, (_, r) => rankAddress(template, place, r));
  return flags({
    model: MODEL_MOUNT,
    'served-name': template.servedName,
    rank,
    'world-size': tensorParallel.size,
    ranks: addresses.join(','),
    listen: `0.0.0.0:${ports.grpc}`,
    'metrics-listen': `0.0.0.0:${ports.metrics}`,
    'collective-host': '$(POD_IP)',
    dtype: engine.dtype === 'auto' ? 'bfloat16' : engine.dtype,
    quantization: engine.quantization === 'none' ? undefined : engine.quantization,
    'max-model-length': engine.maxModelLength,
    'max-sequences': engine.maxSequences,
    'max-batched-tokens': engine.maxBatchedTokens,
    'kv-cache-bytes': engine.kvCache?.bytes === undefined ? undefined : bytesOf(engine.kvCache.bytes),
    'kv-cache-fraction': engine.kvCache?.fraction,
    'kv-cache-dtype': engine.kvCache?.dtype === 'auto' ? undefined : engine.kvCache?.dtype,
    'max-images': engine.limits.maxImages,
    'max-image-bytes': bytesOf(engine.limits.maxImageBytes),
    'drain-timeout-ms': RANK_DRAIN_SECONDS * 1000,
  });
}

function rankResources(template: RevisionTemplate): V1ResourceRequirements {
  const { resources, device } = template.spec;
  const resourceName = device?.resourceName;
  const limits = { ...resources?.limits, ...(resourceName !== undefined && { [resourceName]: 1 }) };
  return {
    ...(resources?.requests && { requests: quantities(resources.requests) }),
    ...(Object.keys(limits).length > 0 && { limits: quantities(limits) }),
    ...(device?.deviceClassName !== undefined && { claims: [{ name: CLAIM }] }),
  };
}
