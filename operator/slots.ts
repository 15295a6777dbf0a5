// The places of groups: which wait to be filled, which are held by groups on their way out, and which indexes are free.
import type { V1Pod } from '@kubernetes/client-node';
import type { FailureEntry } from './failures.ts';
import type { Group } from './group.ts';
import type { Observed } from './observed.ts';
import { isPlaced, isTerminating, timeOf } from './rank-pod.ts';
import type { Revisions } from './revisions.ts';
import type { Slot } from './rollout.ts';

/** A pod that should be gone this long after its grace period holds no place any more, as far as can be seen. */
const OVERDUE_MS = 30_000;

/** Groups that wait to be made again: remembered, and without a live pod. */
export function slotsOf(
  entries: ReadonlyMap<string, FailureEntry>,
  live: readonly Group[],
  groups: readonly Group[],
  revisions: Revisions,
): Slot[] {
  const alive = new Set(live.map(({ name }) => name));
  const seen = new Map(groups.map((group) => [group.name, group]));
  return [...entries].flatMap(([name, entry]): Slot[] => {
    const parsed = /-([0-9a-f]{8})-(\d+)$/.exec(name);
    const revision = parsed?.[1];
    if (alive.has(name) || revision === undefined || !revisions.canMake(revision)) return [];
    return [{ name, revision, index: Number(parsed?.[2]), entry, occupied: seen.has(name) }];
  });
}

/** A group on its way out holds its devices until its pods are gone; those on a lost node, or long overdue, give nothing back by waiting. */
export function holdsPlace(group: Group, now: number): boolean {
  if (group.lost || !group.pods.some(isPlaced)) return !group.lost && !group.terminating;
  return group.pods.some((pod) => !isTerminating(pod) || now < overdueAt(pod));
}

function overdueAt(pod: V1Pod): number {
  return timeOf(pod.metadata?.deletionTimestamp) + OVERDUE_MS;
}

export function overdueTimes(groups: readonly Group[], now: number): number[] {
  const times = groups
    .filter(({ terminating, lost }) => terminating && !lost)
    .flatMap(({ pods }) => pods.map(overdueAt));
  return times.filter((time) => time > now);
}

/** Names have room for four digits. */
const HIGHEST_INDEX = 9_999;

/**
 * The lowest indexes of a revision that nothing has: no pod, no group that waits, no claim. While a node is emptied they are above all that are in use:
 * `kubectl drain` evicts by name, and would otherwise go on to evict the group that came in the place of the one that left.
 */
export function* freeIndexes(
  revision: string,
  groups: readonly Group[],
  slots: readonly Slot[],
  observed: Observed,
): IterableIterator<number> {
  const taken = new Set<number>();
  for (const group of [...groups, ...slots]) if (group.revision === revision) taken.add(group.index);
  for (const { kind, metadata } of observed.children) {
    const index = new RegExp(`-${revision}-(\\d+)$`).exec(metadata.name)?.[1];
    if (kind === 'ResourceClaim' && metadata.deletionTimestamp !== undefined && index !== undefined)
      taken.add(Number(index));
  }
  const isMoving = groups.some(({ cordoned }) => cordoned);
  const above = isMoving ? Math.max(-1, ...taken) + 1 : 0;
  const roomy = above + taken.size <= HIGHEST_INDEX;
  for (let index = roomy ? above : 0; ; index++) if (!taken.has(index)) yield index;
}
