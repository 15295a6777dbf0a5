// What one look at the groups changes in what is remembered of them.
import {
  afterEnd,
  afterRelease,
  sameAttempt,
  type Attempt,
  type FailureEntry,
  type Ledger,
} from './failures.ts';
import type { Group } from './group.ts';
import { uidOf } from './rank-pod.ts';
import type { RolloutDecision } from './rollout.ts';

export function attemptOf(group: Group, now: number): Attempt {
  const { acknowledgedAt } = group;
  const ended = group.ends.map(({ at }) => at).filter((at) => at > 0);
  const until = ended.length > 0 ? Math.min(...ended) : now;
  return {
    name: group.name,
    uids: group.pods.map(uidOf),
    createdAt: group.createdAt,
    readyMs: acknowledgedAt > 0 ? Math.max(1, until - acknowledgedAt) : 0,
  };
}

/** The ledger's word on a group that has to go, or that goes already and shows more of why. */
export function recordFailure(
  group: Group,
  entries: Map<string, FailureEntry>,
  context: {
    readonly ledger: Ledger;
    readonly budget: { maxRestarts: number; stableMs: number };
    readonly isSurge: boolean;
    readonly now: number;
  },
): void {
  const { now } = context;
  const before = entries.get(group.name);
  const attempt = attemptOf(group, now);
  if (group.terminating) {
    // The rank that ended first may have been seen last.
    if (before !== undefined && sameAttempt(before, attempt) && before.kind === 'ended') {
      const better = afterEnd(attempt, group.ends, before, context.budget, now);
      if (better !== undefined) entries.set(group.name, better);
    }
    return;
  }
  const { failure } = group;
  if (failure === undefined) return;
  if (failure.kind === 'ended') {
    const entry = afterEnd(attempt, group.ends, before, context.budget, now);
    if (entry !== undefined) entries.set(group.name, entry);
  } else if (failure.kind === 'nodeLost') {
    // Another index takes its place; the pods here may stay until the node comes back.
    entries.delete(group.name);
  } else if (before !== undefined && sameAttempt(before, attempt)) {
    return;
  } else if (failure.kind === 'unplaced' || group.acknowledgedAt === 0) {
    const surge = failure.kind === 'unplaced' && context.isSurge;
    const avoidNodes = failure.kind === 'unplaced' && !surge && group.node !== undefined ? [group.node] : [];
    const why = { reason: failure.reason, message: failure.message, avoidNodes, surge };
    entries.set(group.name, afterRelease(attempt, why, before, now));
  }
}

/** Entries that have served their time: of groups that found their place, and of revisions that are gone. */
export function forget(
  entries: Map<string, FailureEntry>,
  live: readonly Group[],
  isKnown: (name: string) => boolean,
): void {
  for (const { name, ready } of live) {
    const entry = entries.get(name);
    if (entry === undefined || !ready) continue;
    if (entry.kind !== 'ended') entries.delete(name);
    else if (
      entry.rollout !== undefined ||
      entry.surge ||
      entry.releases > 0 ||
      entry.avoidNodes !== undefined
    ) {
      const { rollout: _, surge: __, avoidNodes: ___, ...rest } = entry;
      entries.set(name, { ...rest, releases: 0 });
    }
  }
  for (const name of entries.keys()) if (!isKnown(name)) entries.delete(name);
}

/** The current revision once all wanted groups are ready with it and no other is left. */
export function stableRevision(
  ledger: Ledger,
  decision: RolloutDecision,
  live: readonly Group[],
  replicas: number,
  current: string,
): string | undefined {
  const all = live.filter((group) => !decision.retire.includes(group));
  const done =
    replicas > 0 && all.length >= replicas && all.every((group) => group.revision === current && group.ready);
  return done && live.every(({ revision }) => revision === current) ? current : ledger.stable;
}
