// What a decision means for the pods of groups that exist: drains, drains undone, removals.
import type { V1Pod } from '@kubernetes/client-node';
import { afterRelease, afterRolloutFailure, keptUntil, type FailureEntry } from './failures.ts';
import type { Group } from './group.ts';
import { attemptOf } from './ledger-update.ts';
import { drainOf, isTerminating, unendedRanks } from './rank-pod.ts';
import type { RolloutDecision } from './rollout.ts';

/** Drains and removals, gathered. */
export class GroupWrites {
  readonly drain: { pod: V1Pod; since: string | undefined }[] = [];
  readonly remove: { pod: V1Pod; why: string }[] = [];
  readonly deadlines: number[] = [];
  readonly #now: number;

  constructor(now: number) {
    this.#now = now;
  }

  /** A failed group goes whole, as soon as it is known who failed. */
  end(group: Group): void {
    if (group.failure === undefined) return;
    const kept =
      group.failure.kind === 'ended' ? keptUntil(group.ends, unendedRanks(group.pods), this.#now) : 0;
    if (kept > 0) this.deadlines.push(kept);
    else this.#removeAll(group, group.failure.message);
  }

  /** What becomes of a live group. */
  settle(group: Group, decision: RolloutDecision, entries: Map<string, FailureEntry>): void {
    const attempt = attemptOf(group, this.#now);
    if (decision.withdraw.includes(group)) {
      const message = group.unschedulable?.message ?? group.message;
      const why = { reason: 'NoPlaceForSurge', message, avoidNodes: [], surge: true };
      entries.set(group.name, afterRelease(attempt, why, entries.get(group.name), this.#now));
      this.#removeAll(group, 'no place was found for one group more than wanted');
    } else if (decision.yield.includes(group)) {
      const failed = decision.state.failed;
      if (failed !== undefined)
        entries.set(group.name, afterRolloutFailure(attempt, failed, entries.get(group.name), this.#now));
      this.#removeAll(group, 'its revision failed, and its place is needed');
    } else if (decision.retire.includes(group)) this.#retire(group, entries);
    else if (drainOf(group.leader) !== undefined && group.leader !== undefined)
      this.drain.push({ pod: group.leader, since: undefined });
  }

  #retire(group: Group, entries: Map<string, FailureEntry>): void {
    if (!group.needsDrain || group.drained) {
      entries.delete(group.name);
      this.#removeAll(group, 'it is not wanted any more');
    } else if (group.drainSince === undefined && group.leader !== undefined) {
      this.drain.push({ pod: group.leader, since: new Date(this.#now).toISOString() });
    } else if (group.drainDeadline > this.#now) this.deadlines.push(group.drainDeadline);
  }

  #removeAll(group: Group, why: string): void {
    for (const pod of group.pods) if (!isTerminating(pod)) this.remove.push({ pod, why });
  }
}
