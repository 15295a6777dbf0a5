// Which groups there shall be: what to make, to retire and to give up. Decided anew from what is seen at every turn, with no plan of its own to follow;
// so a changed spec, a failure, a group that comes back or a restarted operator need no special case.
//
//   target   the revision that new groups are made of: the spec's, or the last stable one while the spec's has failed
//   fresh    groups to keep: of the target, on nodes that take pods
//   stale    groups to replace: of older revisions, or on cordoned nodes; kept while they are needed
//   K        stale groups that are needed: R - ready fresh ones, one less where the new one takes the place of an old one (recreate)
//
// Never more than R + 1 groups besides those that are going away. A stale group that serves is retired only when K allows, best ones kept; so by our own
// action no fewer than R serve with surge, no fewer than R - 1 with recreate.
import type { FailureEntry } from './failures.ts';
import type { Group } from './group.ts';

export interface RolloutInput {
  readonly replicas: number;
  readonly current: string;
  /** The last stable revision, when it is another one and its groups can still be made. */
  readonly stable: string | undefined;
  readonly strategy: 'Auto' | 'Surge' | 'Recreate';
  readonly placementTimeoutMs: number;
  readonly progressDeadlineMs: number;
  /** Live groups: neither all terminating nor failed. */
  readonly live: readonly Group[];
  /** Groups without live pods that wait to be made again. */
  readonly slots: readonly Slot[];
  /** What is remembered of earlier attempts of live groups. */
  readonly history: ReadonlyMap<string, FailureEntry>;
  /** Groups on their way out that still hold their places. */
  readonly vacating: number;
  /** Whether groups of a revision can be made at all. */
  readonly canMake: (revision: string) => boolean;
  /** Why no group of the current revision may be made. */
  readonly blocked: Trouble | undefined;
  /** Why and since when the API server refuses to create a group of this name. */
  readonly refused: (revision: string, index: number) => { since: number; message: string } | undefined;
  /** The lowest index of a revision that is free. */
  readonly freeIndexes: (revision: string) => IterableIterator<number>;
  readonly now: number;
}

export interface Slot {
  readonly name: string;
  readonly revision: string;
  readonly index: number;
  readonly entry: FailureEntry;
  /** Pods of the failed attempt are still there. */
  readonly occupied: boolean;
}

export interface Trouble {
  readonly reason: string;
  readonly message: string;
}

export interface NewGroup {
  readonly revision: string;
  readonly index: number;
  readonly avoidNodes: readonly string[];
}

/** What is going on, for the status. */
export interface RolloutState {
  readonly phase: 'Stable' | 'Creating' | 'RollingOut' | 'Moving' | 'ScalingDown' | 'Failed';
  readonly target: string;
  readonly mode: 'surge' | 'recreate';
  /** Why the current revision counts as failed; old groups serve on. */
  readonly failed: Trouble | undefined;
  /** What the rollout waits for, in words. */
  readonly waitingFor: string;
  readonly blocked: Trouble | undefined;
}

export interface RolloutDecision {
  readonly create: readonly NewGroup[];
  /** Drained first where routers may have work on them, then removed. */
  readonly retire: readonly Group[];
  /** Groups beyond R that found no place. */
  readonly withdraw: readonly Group[];
  /** Groups of the failed revision that give up their places, their failure kept. */
  readonly yield: readonly Group[];
  /** One group more than wanted, which the API server has refused for too long: as good as without a place. */
  readonly refusedSurge:
    { readonly revision: string; readonly index: number; readonly message: string } | undefined;
  /** Ledger entries of groups that are not made again. */
  readonly drop: readonly string[];
  readonly state: RolloutState;
  /** Times at which to decide again. */
  readonly deadlines: readonly number[];
}

/** One turn of the rollout. Pure. */
export function decideRollout(input: RolloutInput): RolloutDecision {
  const failed = failureOf(input);
  const fallback = failed === undefined ? undefined : fallbackOf(input);
  const target = fallback ?? input.current;
  const units = sortOut(input, target, fallback !== undefined);
  const { now, replicas } = input;

  const { kept: fresh, excess } = keepBest(units.fresh, replicas, input.current);
  const slotsWanted = Math.max(0, replicas - fresh.length);
  const targetSlots = units.slots.toSorted((a, b) => a.index - b.index);
  const slots = targetSlots.slice(0, slotsWanted);
  const ready = fresh.filter((group) => group.ready).length;
  const worth = units.stale.filter(isWorthKeeping);
  const mode = modeOf(input, fresh, slots);
  const needed = Math.max(0, replicas - ready - (mode === 'recreate' ? 1 : 0));
  const { kept, excess: notNeeded } = keepBest(worth, needed, input.current);
  const worthless = units.stale.filter((group) => !isWorthKeeping(group));

  const settled =
    replicas > 0 && units.stale.length === 0 && fresh.length >= replicas && fresh.every(isWorthKeeping);
  const evidence = settled ? units.evidence.toSorted(byAge).slice(0, 1) : [];
  const yielding = units.evidence.filter((group) => !evidence.includes(group));
  const retire = [...excess, ...notNeeded, ...worthless];
  const withdraw = [...fresh, ...evidence].filter((group) =>
    isWithdrawn(group, input, kept.length, evidence),
  );

  // Whatever still holds a place counts, also what is about to leave it.
  const occupied = input.live.length + input.vacating;
  const room = replicas - occupied;
  const create: NewGroup[] = [];
  const deadlines: number[] = [];
  let refusedSurge: RolloutDecision['refusedSurge'];
  const make = (revision: string, index: number, avoidNodes: readonly string[] = []): void => {
    if (input.canMake(revision)) create.push({ revision, index, avoidNodes });
  };
  const mayMake = !(input.blocked !== undefined && target === input.current);

  const inProgress = fresh.some((group) => !group.ready);
  const isSurge = (): boolean =>
    replicas > 0 &&
    create.length === 0 &&
    room === 0 &&
    kept.length > 0 &&
    !inProgress &&
    retire.length === 0;
  if (mayMake) {
    for (const slot of slots) {
      const fits = create.length < room;
      const due = retryTime(slot) <= now || (fits && slot.entry.surge === true);
      const beyond = isSurge() && mode === 'surge';
      if (slot.occupied || !(fits || beyond)) continue;
      if (due) make(slot.revision, slot.index, fits && slot.entry.surge ? [] : slot.entry.avoidNodes);
      else deadlines.push(retryTime(slot));
    }
    const indexes = input.freeIndexes(target);
    // Slots will be made again, so their places are not given away.
    const missing = room - slots.length;
    for (let made = 0; made < missing; made++) make(target, indexes.next().value ?? 0);
    if (isSurge() && mode === 'surge' && slots.length === 0) {
      const index = indexes.next().value ?? 0;
      const refusal = input.strategy === 'Auto' ? input.refused(target, index) : undefined;
      const until = (refusal?.since ?? now) + input.placementTimeoutMs;
      if (refusal !== undefined && until <= now)
        refusedSurge = { revision: target, index, message: refusal.message };
      else make(target, index);
      if (refusal !== undefined) deadlines.push(until);
    }
  }
  const first = units.evidenceSlots[0];
  if (
    first !== undefined &&
    settled &&
    evidence.length === 0 &&
    input.blocked === undefined &&
    room >= 0 &&
    !inProgress
  ) {
    if (retryTime(first) <= now && !first.occupied) make(first.revision, first.index, first.entry.avoidNodes);
    else if (!first.occupied) deadlines.push(retryTime(first));
  }

  for (const group of input.live) {
    if (group.ready) continue;
    if (group.unschedulable !== undefined || group.missing > 0) deadlines.push(group.placementDeadline);
    if (group.acknowledgedAt === 0) deadlines.push(sinceOf(group, input) + input.progressDeadlineMs);
  }
  const drop = [
    ...units.dropped,
    ...targetSlots.slice(slots.length),
    ...units.evidenceSlots.slice(replicas > 0 ? 1 : 0),
  ];
  return {
    create,
    retire,
    withdraw: withdraw.filter((group) => !retire.includes(group)),
    yield: yielding,
    refusedSurge,
    drop: drop.map(({ name }) => name),
    state: stateOf(input, { target, mode, failed, fallback, fresh, kept, retire, create, slots, settled }),
    deadlines: deadlines.filter((time) => time > now && Number.isFinite(time)),
  };
}

interface Units {
  readonly fresh: readonly Group[];
  readonly stale: readonly Group[];
  /** Groups of the failed revision that do not serve. */
  readonly evidence: readonly Group[];
  readonly slots: readonly Slot[];
  readonly evidenceSlots: readonly Slot[];
  readonly dropped: readonly Slot[];
}

function sortOut(input: RolloutInput, target: string, fellBack: boolean): Units {
  const { current } = input;
  const units = { fresh: [] as Group[], stale: [] as Group[], evidence: [] as Group[] };
  for (const group of input.live) {
    const failedOne = fellBack && group.revision === current && !isWorthKeeping(group);
    const older = fellBack
      ? group.revision !== current && group.revision !== target && !isWorthKeeping(group)
      : group.revision !== current;
    if (failedOne) units.evidence.push(group);
    else if (older || group.cordoned) units.stale.push(group);
    else units.fresh.push(group);
  }
  const slots = input.slots.filter(({ revision }) => revision === target);
  const evidenceSlots = fellBack
    ? input.slots
        .filter(({ revision }) => revision === current)
        .toSorted(
          (a, b) =>
            Number(b.entry.rollout !== undefined) - Number(a.entry.rollout !== undefined) ||
            a.index - b.index,
        )
    : [];
  const dropped = input.slots.filter((slot) => !slots.includes(slot) && !evidenceSlots.includes(slot));
  return { ...units, slots, evidenceSlots, dropped };
}

/** It serves, or did and may in a moment: a group that never got so far is no loss. */
function isWorthKeeping(group: Group): boolean {
  return group.ready || (group.containersReady && group.acknowledgedAt > 0);
}

/** The `count` groups that are worth most; of the others, first go those not ready, cordoned, of an older revision, the youngest. */
function keepBest(
  groups: readonly Group[],
  count: number,
  current: string,
): { kept: Group[]; excess: Group[] } {
  const best = groups.toSorted(
    (a, b) =>
      value(b) - value(a) ||
      Number(a.cordoned) - Number(b.cordoned) ||
      Number(b.revision === current) - Number(a.revision === current) ||
      byAge(a, b),
  );
  return { kept: best.slice(0, count), excess: best.slice(count) };
}

/**
 * A group that drains for its own sake comes back when it is wanted, before one that is not there yet. Of two that routers have given up, the one that
 * drains goes on doing so: otherwise they would change places for ever.
 */
function value(group: Group): number {
  if (group.ready) return 5;
  const draining = group.drainSince !== undefined;
  if (isWorthKeeping(group)) return draining ? (group.acknowledged ? 4 : 2) : 3;
  return group.containersReady && !draining ? 1 : 0;
}

function byAge(a: Group, b: Group): number {
  return a.createdAt - b.createdAt || a.index - b.index || (a.name < b.name ? -1 : 1);
}

function modeOf(input: RolloutInput, fresh: readonly Group[], slots: readonly Slot[]): 'surge' | 'recreate' {
  if (input.strategy === 'Surge') return 'surge';
  if (input.strategy === 'Recreate') return 'recreate';
  const unplaced =
    slots.some(({ entry }) => entry.surge === true) ||
    fresh.some((group) => !group.ready && input.history.get(group.name)?.surge === true);
  return unplaced ? 'recreate' : 'surge';
}

/** Beyond R and without a place for too long. With strategy Surge it waits on. */
function isWithdrawn(group: Group, input: RolloutInput, stale: number, evidence: readonly Group[]): boolean {
  const isEvidence = evidence.includes(group);
  if (group.ready || (input.strategy === 'Surge' && !isEvidence) || (stale === 0 && !isEvidence))
    return false;
  if (input.live.length + input.vacating <= input.replicas) return false;
  const unplaced = group.unschedulable !== undefined || group.missing > 0;
  return unplaced && input.now >= group.placementDeadline;
}

function retryTime({ entry }: Slot): number {
  return entry.retryAt === undefined ? Number.POSITIVE_INFINITY : Date.parse(entry.retryAt);
}

function sinceOf(group: Group, input: RolloutInput): number {
  const since = input.history.get(group.name)?.since;
  return since === undefined ? group.createdAt : Math.min(Date.parse(since), group.createdAt);
}

/** Why the current revision counts as failed: of its groups that do not serve, the first reason found. */
function failureOf(input: RolloutInput): Trouble | undefined {
  if (input.blocked !== undefined) return input.blocked;
  for (const { name, revision, entry } of input.slots) {
    if (revision !== input.current) continue;
    const trouble = entryTrouble(name, entry, input);
    if (trouble !== undefined) return trouble;
  }
  for (const group of input.live) {
    if (group.revision !== input.current || isWorthKeeping(group)) continue;
    if (group.cannotStart !== undefined) {
      const { rank, reason, message } = group.cannotStart;
      return { reason, message: `replica ${group.name} rank ${rank}: ${message}` };
    }
    const entry = input.history.get(group.name);
    const trouble = entry && entryTrouble(group.name, entry, input);
    if (trouble !== undefined) return trouble;
    if (input.now - sinceOf(group, input) >= input.progressDeadlineMs && group.acknowledgedAt === 0)
      return deadlineTrouble(group.name, group.message);
  }
  return undefined;
}

function entryTrouble(name: string, entry: FailureEntry, input: RolloutInput): Trouble | undefined {
  if (entry.rollout !== undefined) return entry.rollout;
  const end = `replica ${name} rank ${entry.rank}: ${entry.reason}${entry.exitCode === undefined ? '' : `, exit code ${entry.exitCode}`}`;
  const last = entry.lastLines.at(-1);
  const told = last === undefined ? end : `${end}: ${last}`;
  if (entry.hopeless === true) return { reason: 'CannotStart', message: told };
  if (entry.kind === 'ended' && entry.retryAt === undefined)
    return { reason: 'RestartBudgetExhausted', message: `${told} (${entry.failures} failures in a row)` };
  if (input.now - Date.parse(entry.since) >= input.progressDeadlineMs) return deadlineTrouble(name, told);
  return undefined;
}

function deadlineTrouble(name: string, why: string): Trouble {
  return {
    reason: 'ProgressDeadlineExceeded',
    message: `replica ${name} has not become ready within spec.rollout.progressDeadline: ${why}`,
  };
}

/** What to go back to: the stable revision, else the one of most groups that serve. */
function fallbackOf(input: RolloutInput): string | undefined {
  if (input.stable !== undefined && input.stable !== input.current && input.canMake(input.stable))
    return input.stable;
  const counts = new Map<string, number>();
  for (const group of input.live)
    if (group.revision !== input.current && isWorthKeeping(group))
      counts.set(group.revision, (counts.get(group.revision) ?? 0) + 1);
  return [...counts].toSorted(([, a], [, b]) => b - a)[0]?.[0];
}

interface Picture {
  readonly target: string;
  readonly mode: 'surge' | 'recreate';
  readonly failed: Trouble | undefined;
  readonly fallback: string | undefined;
  readonly fresh: readonly Group[];
  readonly kept: readonly Group[];
  readonly retire: readonly Group[];
  readonly create: readonly NewGroup[];
  readonly slots: readonly Slot[];
  readonly settled: boolean;
}

function stateOf(input: RolloutInput, picture: Picture): RolloutState {
  const { target, mode, failed, fresh, kept, retire } = picture;
  const leaving = [...kept, ...retire];
  const outdated = leaving.some(({ revision }) => revision !== target);
  const moving = leaving.some(({ cordoned }) => cordoned);
  const phase =
    failed !== undefined
      ? 'Failed'
      : outdated
        ? 'RollingOut'
        : moving
          ? 'Moving'
          : fresh.length < input.replicas || fresh.some(({ ready }) => !ready)
            ? 'Creating'
            : retire.length > 0
              ? 'ScalingDown'
              : 'Stable';
  const waiting = fresh.find(({ ready }) => !ready);
  const draining = retire.find(({ drainSince }) => drainSince !== undefined);
  const slot = picture.slots[0];
  const waitingFor =
    waiting !== undefined
      ? `replica ${waiting.name} ${waiting.message}`
      : draining !== undefined
        ? `replica ${draining.name} finishes its requests`
        : slot !== undefined
          ? `replica ${slot.name} is made again${slot.entry.retryAt === undefined ? '' : ` at ${slot.entry.retryAt}`}`
          : '';
  return { phase, target, mode, failed, waitingFor, blocked: input.blocked };
}
