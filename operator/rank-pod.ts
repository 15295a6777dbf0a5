// What one rank pod says of itself. Pure reading; times are milliseconds, 0 where there is none.
import type { V1ContainerStatus, V1Pod, V1PodCondition } from '@kubernetes/client-node';
import { ANNOTATIONS, LABELS, ROUTER_ACKNOWLEDGED } from './api.ts';

/** Waiting reasons that no amount of waiting for weights explains: the container cannot be started as it is written. */
const CANNOT_START = new Set([
  'ErrImagePull',
  'ImagePullBackOff',
  'InvalidImageName',
  'ErrImageNeverPull',
  'ImageInspectError',
  'RegistryUnavailable',
  'CreateContainerConfigError',
  'CreateContainerError',
  'RunContainerError',
]);

/** How a rank ended. */
export interface RankEnd {
  readonly rank: number;
  readonly exitCode: number | undefined;
  readonly reason: string;
  readonly message: string;
  readonly at: number;
  readonly startedAt: number;
  /** Its pod was being deleted when this was seen: a kill may have been ours. */
  readonly whileDeleted: boolean;
}

/** API times are strings at run time, whatever the client's types say. */
export function timeOf(time: Date | string | null | undefined): number {
  if (time === undefined || time === null) return 0;
  const at = time instanceof Date ? time.getTime() : Date.parse(time);
  return Number.isNaN(at) ? 0 : at;
}

export function labelOf(pod: V1Pod, label: string): string | undefined {
  return pod.metadata?.labels?.[label];
}

/** The rank; 0 for the one pod of a SinglePod group. */
export function rankOf(pod: V1Pod): number {
  return Number(labelOf(pod, LABELS.rank) ?? 0);
}

export function uidOf(pod: V1Pod): string {
  return pod.metadata?.uid ?? '';
}

export function conditionOf(pod: V1Pod, type: string): V1PodCondition | undefined {
  return pod.status?.conditions?.find((condition) => condition.type === type);
}

export function isTerminating(pod: V1Pod): boolean {
  return pod.metadata?.deletionTimestamp !== undefined;
}

export function createdAt(pod: V1Pod): number {
  return timeOf(pod.metadata?.creationTimestamp);
}

export function drainOf(pod: V1Pod | undefined): string | undefined {
  return pod?.metadata?.annotations?.[ANNOTATIONS.drain];
}

export function gateOf(pod: V1Pod | undefined): V1PodCondition | undefined {
  return pod === undefined ? undefined : conditionOf(pod, ROUTER_ACKNOWLEDGED);
}

export function isPlaced(pod: V1Pod): boolean {
  return (pod.spec?.nodeName ?? '') !== '';
}

/** Running with all containers ready; the readiness gate is not asked. */
export function containersReady(pod: V1Pod): boolean {
  return pod.status?.phase === 'Running' && conditionOf(pod, 'ContainersReady')?.status === 'True';
}

/** A container has run, so the rank may have met its peers. */
export function hasStarted(pod: V1Pod): boolean {
  return statusesOf(pod).some(({ state }) => state?.running != null || state?.terminated != null);
}

export function startedAt(pod: V1Pod): number {
  const starts = statusesOf(pod).map(({ state }) =>
    timeOf(state?.running?.startedAt ?? state?.terminated?.startedAt),
  );
  return starts.length === 0 || starts.includes(0) ? 0 : Math.max(...starts);
}

/** What the scheduler lacks for this pod. */
export function unschedulable(pod: V1Pod): string | undefined {
  const scheduled = conditionOf(pod, 'PodScheduled');
  if (isPlaced(pod) || scheduled?.status !== 'False') return undefined;
  return `${scheduled.reason ?? 'Unschedulable'}: ${scheduled.message ?? 'no node fits'}`;
}

/** Why a container of this pod cannot start, when that is so. */
export function cannotStart(pod: V1Pod): { rank: number; reason: string; message: string } | undefined {
  for (const [index, { state }] of statusesOf(pod).entries()) {
    const reason = state?.waiting?.reason;
    if (reason !== undefined && CANNOT_START.has(reason))
      return { rank: rankOfContainer(pod, index), reason, message: state?.waiting?.message ?? reason };
  }
  return undefined;
}

/** The ranks of this pod that ended, and the pod itself when it failed without any container saying so (evicted, refused by the kubelet). */
export function ends(pod: V1Pod): RankEnd[] {
  const ended = statusesOf(pod).flatMap(({ state }, index): RankEnd[] => {
    const end = state?.terminated;
    if (end == null) return [];
    return [
      {
        rank: rankOfContainer(pod, index),
        exitCode: end.exitCode,
        reason: end.reason ?? 'Error',
        message: end.message ?? '',
        at: timeOf(end.finishedAt),
        startedAt: timeOf(end.startedAt),
        whileDeleted: isTerminating(pod),
      },
    ];
  });
  const { phase, reason, message } = pod.status ?? {};
  if (ended.length > 0 || (phase !== 'Failed' && phase !== 'Succeeded')) return ended;
  return [
    {
      rank: rankOf(pod),
      exitCode: undefined,
      reason: reason ?? phase,
      message: message ?? '',
      at: timeOf(conditionOf(pod, 'Ready')?.lastTransitionTime),
      startedAt: timeOf(pod.status?.startTime),
      whileDeleted: isTerminating(pod),
    },
  ];
}

/** Ranks that have not ended as far as is known, in pods that are not being deleted. */
export function unendedRanks(pods: readonly V1Pod[]): number {
  const kept = pods.filter((pod) => !isTerminating(pod));
  return kept.reduce((sum, pod) => sum + Math.max(1, statusesOf(pod).length) - ends(pod).length, 0);
}

function statusesOf(pod: V1Pod): readonly V1ContainerStatus[] {
  return pod.status?.containerStatuses ?? [];
}

/** Containers of a SinglePod group are called rank-0, rank-1, … */
function rankOfContainer(pod: V1Pod, index: number): number {
  const rank = /^rank-(\d+)$/.exec(pod.status?.containerStatuses?.[index]?.name ?? '')?.[1];
  return rank === undefined ? rankOf(pod) : Number(rank);
}
