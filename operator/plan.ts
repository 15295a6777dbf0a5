// From what is wanted and what is seen to what is to be done next. Pure and level-triggered: the same input gives the same plan, whatever happened before,
// and a plan of which only a part was carried out is completed by the next one.
import type { V1Pod, V1PodCondition } from '@kubernetes/client-node';
import type { InternVLDeployment } from '../gen/crd/internvl-deployment.ts';
import { LABELS } from './api.ts';
import {
  afterEnd,
  afterRelease,
  afterRolloutFailure,
  ledgerChange,
  parseLedger,
  sameAttempt,
  STABLE_MS,
  type Attempt,
  type FailureEntry,
  type Ledger,
} from './failures.ts';
import { classify, type Group } from './group.ts';
import { replicaName, revisionConfigMapName, routersConfigMapName } from './names.ts';
import type { ChildObject, Observed } from './observed.ts';
import { interconnectState } from './interconnect.ts';
import { children } from './resources/children.ts';
import { rankAddress, type GroupPlace } from './resources/group-place.ts';
import { modelSourceProblem } from './resources/model-volume.ts';
import { rankPods } from './resources/rank-pods.ts';
import { resourceClaim } from './resources/resource-claim.ts';
import { parseRevisionConfigMap, revisionConfigMap } from './resources/revision-config-map.ts';
import { revisionOf, revisionTemplate, type RevisionTemplate } from './revision.ts';
import { millisecondsOf } from './quantity.ts';
import { drainOf, isPlaced, isTerminating, timeOf, uidOf } from './rank-pod.ts';
import {
  decideRollout,
  type RolloutDecision,
  type RolloutState,
  type Slot,
  type Trouble,
} from './rollout.ts';

/** What the operator's own release and flags decide. */
export interface PlanConfig {
  readonly runtimeImage: string;
  readonly routerImage: string;
  /** How long a group may wait for a place before what it holds is released, or the rollout goes on without a surge. */
  readonly placementTimeoutMs: number;
  /** How long a node may be not ready before its groups are replaced: kubelets that could not reach the API server are heard of again by then. */
  readonly nodeLostTimeoutMs: number;
  readonly networkPolicy: boolean;
}

/** One group to make: the claim first, then the pods in rank order. `pods` are those that do not exist yet. */
export interface PlannedGroup {
  readonly name: string;
  readonly revision: string;
  readonly index: number;
  /** HOST:PORT of rank 0. */
  readonly address: string;
  readonly pods: readonly V1Pod[];
  readonly claim: ChildObject | undefined;
}

/** What to do, in this order; all of it may be empty. */
export interface Plan {
  readonly revision: string;
  /** Server-side apply. */
  readonly apply: readonly ChildObject[];
  /** The failures ConfigMap, written before anything is removed; undefined = unchanged. */
  readonly failures: ChildObject | undefined;
  readonly gates: readonly { readonly pod: V1Pod; readonly condition: V1PodCondition }[];
  /** `since` undefined takes the annotation away. */
  readonly drain: readonly { readonly pod: V1Pod; readonly since: string | undefined }[];
  readonly remove: readonly { readonly pod: V1Pod; readonly why: string }[];
  readonly create: readonly PlannedGroup[];
  readonly prune: readonly ChildObject[];
  readonly staleReports: readonly string[];
  readonly groups: readonly Group[];
  /** What is remembered of failures, by group name. */
  readonly remembered: ReadonlyMap<string, FailureEntry>;
  /** Groups without pods that are to be made again. */
  readonly waiting: readonly Slot[];
  readonly rollout: RolloutState;
  readonly requeueAfterMs: number | undefined;
}

/** Revision ConfigMaps that no pod uses and that are kept all the same, for a rollback. */
const REVISIONS_KEPT = 2;
/** A pod that should be gone this long after its grace period holds no place any more, as far as can be seen. */
const OVERDUE_MS = 30_000;

/** What is to be done for `deployment`, whose defaults are applied. An unsupported source is a result, not an error. */
export function plan(
  deployment: InternVLDeployment,
  observed: Observed,
  config: PlanConfig,
  now: number,
): Plan {
  const { rollout, replicas } = deployment.spec;
  const revisions = new Revisions(deployment, observed, config);
  const ledger = parseLedger(observed.failures);
  const drainTimeoutMs = millisecondsOf(rollout.drainTimeout);
  const groups = classify({
    observed,
    podsOf: (revision) => revisions.podCount(revision),
    placementTimeoutMs: config.placementTimeoutMs,
    avoidsNodes: (name) => (ledger.groups.get(name)?.avoidNodes ?? []).length > 0,
    nodeLostTimeoutMs: config.nodeLostTimeoutMs,
    drainTimeoutMs,
    now,
  });
  const live = groups.filter(({ terminating, failure }) => !terminating && failure === undefined);
  const vacating = groups.filter((group) => !live.includes(group) && holdsPlace(group, now));
  const budget = { maxRestarts: rollout.maxGroupRestarts, stableMs: STABLE_MS };
  const entries = new Map(ledger.groups);
  for (const group of groups) {
    const isSurge = live.length + vacating.length > replicas && rollout.strategy === 'Auto';
    recordFailure(group, entries, { ledger, budget, isSurge, now });
  }

  const slots = slotsOf(entries, live, groups, revisions);
  const decision = decideRollout({
    replicas,
    current: revisions.current,
    stable: ledger.stable === revisions.current ? undefined : ledger.stable,
    strategy: rollout.strategy,
    placementTimeoutMs: config.placementTimeoutMs,
    progressDeadlineMs: millisecondsOf(rollout.progressDeadline),
    live,
    slots,
    history: entries,
    vacating: vacating.length,
    canMake: (revision) => revisions.canMake(revision),
    blocked: blockedBy(deployment),
    refused: (revision, index) => {
      const unmade = observed.unmade?.get(replicaName(deployment.metadata.name, revision, index));
      return unmade?.refused === true ? unmade : undefined;
    },
    freeIndexes: (revision) => freeIndexes(revision, groups, slots, observed),
    now,
  });

  const create = [
    ...decision.create.map((group) => revisions.planned(group)),
    ...live.flatMap((group) => completed(group, decision, revisions, entries)),
  ];
  const writes = new Writes(now);
  for (const group of groups) writes.end(group);
  for (const group of live) writes.settle(group, decision, entries);
  for (const name of decision.drop) entries.delete(name);
  forget(
    entries,
    live,
    (name) => groups.some((group) => group.name === name) || slots.some((slot) => slot.name === name),
  );
  if (decision.refusedSurge !== undefined) {
    const { revision, index, message } = decision.refusedSurge;
    const name = replicaName(deployment.metadata.name, revision, index);
    const why = { reason: 'SurgeRefused', message, avoidNodes: [], surge: true };
    entries.set(
      name,
      afterRelease({ name, uids: [], createdAt: now, readyMs: 0 }, why, entries.get(name), now),
    );
  }
  const stable = stableRevision(ledger, decision, live, replicas, revisions.current);

  const kept = new Set([revisions.current, ...(stable === undefined ? [] : [stable])]);
  for (const { revision } of [...groups, ...slots, ...decision.create]) kept.add(revision);
  const apply = [...revisions.applied(), ...children(deployment, config)];
  const wantedClaims = new Set([...groups, ...create].map(({ name }) => name));
  const prune = [...revisions.unused(kept), ...unusedChildren(observed, apply, wantedClaims)];
  const losses = groups.flatMap(({ lostDeadline }) => (lostDeadline > now ? [lostDeadline] : []));
  const deadlines = [...decision.deadlines, ...writes.deadlines, ...overdueTimes(groups, now), ...losses];
  return {
    revision: revisions.current,
    apply,
    failures: ledgerChange(deployment, observed.failures, { stable, groups: entries }),
    gates: groups.flatMap(({ leader, gate }) =>
      leader === undefined || gate === undefined ? [] : [{ pod: leader, condition: gate }],
    ),
    drain: writes.drain,
    remove: writes.remove,
    create,
    prune,
    staleReports: staleReports(deployment, observed),
    groups,
    remembered: entries,
    waiting: slots.filter(
      ({ name }) => !decision.drop.includes(name) && !create.some((group) => group.name === name),
    ),
    rollout: decision.state,
    requeueAfterMs: deadlines.length === 0 ? undefined : Math.max(1, Math.min(...deadlines) - now),
  };
}

/** The templates that groups are made from: each revision's own, as it was written when the revision came up. */
class Revisions {
  readonly current: string;
  readonly #deployment: InternVLDeployment;
  readonly #observed: Observed;
  readonly #templates = new Map<string, RevisionTemplate>();
  readonly #counts = new Map<string, number>();

  constructor(deployment: InternVLDeployment, observed: Observed, config: PlanConfig) {
    this.#deployment = deployment;
    this.#observed = observed;
    this.current = revisionOf(deployment);
    for (const configMap of observed.revisions) {
      const parsed = parseRevisionConfigMap(configMap);
      if (parsed !== undefined) this.#templates.set(parsed.revision, parsed.template);
    }
    if (!this.#templates.has(this.current) && blockedBy(deployment) === undefined)
      this.#templates.set(this.current, revisionTemplate(deployment, config));
  }

  canMake(revision: string): boolean {
    return this.#templates.has(revision);
  }

  /** Pods of a whole group. */
  podCount(revision: string): number | undefined {
    const template = this.#templates.get(revision);
    if (template === undefined) return undefined;
    const known =
      this.#counts.get(revision) ?? rankPods(template, this.#place({ revision, index: 0 })).length;
    this.#counts.set(revision, known);
    return known;
  }

  planned(group: { revision: string; index: number; avoidNodes?: readonly string[] }): PlannedGroup {
    const template = this.#templates.get(group.revision);
    if (template === undefined) throw new Error(`revision ${group.revision} has no template`);
    const place = this.#place(group);
    const name = replicaName(place.deployment.name, group.revision, group.index);
    const claim = resourceClaim(template, place);
    const exists = this.#observed.children.some(
      (child) => child.kind === 'ResourceClaim' && child.metadata.name === claim?.metadata.name,
    );
    return {
      name,
      revision: group.revision,
      index: group.index,
      address: rankAddress(template, place, 0),
      pods: rankPods(template, place),
      claim: exists ? undefined : claim,
    };
  }

  /** The current revision's ConfigMap where there is none: what stands in one is never changed. */
  applied(): ChildObject[] {
    const template = this.#templates.get(this.current);
    const name = revisionConfigMapName(this.#deployment.metadata.name, this.current);
    const exists = this.#observed.revisions.some(({ metadata }) => metadata?.name === name);
    return template === undefined || exists
      ? []
      : [revisionConfigMap(this.#deployment, this.current, template)];
  }

  /** Revision ConfigMaps that nothing needs, but for the newest few. */
  unused(kept: ReadonlySet<string>): ChildObject[] {
    return this.#observed.revisions
      .filter(({ metadata }) => metadata?.deletionTimestamp === undefined)
      .map((configMap) => ({ configMap, revision: configMap.metadata?.labels?.[LABELS.revision] ?? '' }))
      .map(({ configMap, revision }) => ({
        configMap,
        revision: parseRevisionConfigMap(configMap)?.revision ?? revision,
      }))
      .filter(({ revision }) => !kept.has(revision))
      .toSorted(
        (a, b) =>
          timeOf(b.configMap.metadata?.creationTimestamp) - timeOf(a.configMap.metadata?.creationTimestamp) ||
          (a.revision < b.revision ? -1 : 1),
      )
      .slice(REVISIONS_KEPT)
      .map(({ configMap }) => configMap as unknown as ChildObject);
  }

  #place(group: { revision: string; index: number; avoidNodes?: readonly string[] }): GroupPlace {
    const { name, namespace = 'default', uid } = this.#deployment.metadata;
    const avoidNodes = group.avoidNodes ?? [];
    return {
      deployment: { name, namespace, uid },
      revision: group.revision,
      index: group.index,
      ...(avoidNodes.length > 0 && { avoidNodes }),
    };
  }
}

/** Drains and removals, gathered. */
class Writes {
  readonly drain: { pod: V1Pod; since: string | undefined }[] = [];
  readonly remove: { pod: V1Pod; why: string }[] = [];
  readonly deadlines: number[] = [];
  readonly #now: number;

  constructor(now: number) {
    this.#now = now;
  }

  /** A failed group goes at once, whole. */
  end(group: Group): void {
    if (group.failure !== undefined) this.#removeAll(group, group.failure.message);
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

function attemptOf(group: Group, now: number): Attempt {
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
function recordFailure(
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

/** Groups that wait to be made again: remembered, and without a live pod. */
function slotsOf(
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

/** Entries that have served their time: of groups that found their place, and of revisions that are gone. */
function forget(
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
function stableRevision(
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

/** The pods that a cut-short creation still owes, of a group that goes on. */
function completed(
  group: Group,
  decision: RolloutDecision,
  revisions: Revisions,
  entries: ReadonlyMap<string, FailureEntry>,
): PlannedGroup[] {
  if (group.missing === 0 || !revisions.canMake(group.revision)) return [];
  if ([decision.retire, decision.withdraw, decision.yield].some((leaving) => leaving.includes(group)))
    return [];
  const avoidNodes = entries.get(group.name)?.avoidNodes ?? [];
  const whole = revisions.planned({ revision: group.revision, index: group.index, avoidNodes });
  const existing = new Set(group.pods.map(({ metadata }) => metadata?.name));
  return [{ ...whole, pods: whole.pods.filter(({ metadata }) => !existing.has(metadata?.name)) }];
}

/** A group on its way out holds its devices until its pods are gone; those on a lost node, or long overdue, give nothing back by waiting. */
function holdsPlace(group: Group, now: number): boolean {
  if (group.lost || !group.pods.some(isPlaced)) return !group.lost && !group.terminating;
  return group.pods.some((pod) => !isTerminating(pod) || now < overdueAt(pod));
}

function overdueAt(pod: V1Pod): number {
  return timeOf(pod.metadata?.deletionTimestamp) + OVERDUE_MS;
}

function overdueTimes(groups: readonly Group[], now: number): number[] {
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
function* freeIndexes(
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

/** Why no rank pod of this spec may be made. */
export function blockedBy(deployment: InternVLDeployment): Trouble | undefined {
  const source = modelSourceProblem(deployment);
  if (source !== undefined) return { reason: 'SourceNotSupported', message: source };
  const { blocksPods, reason, message } = interconnectState(deployment);
  return blocksPods ? { reason, message } : undefined;
}

/** Children of kinds that a spec or flag can make needless, and claims of groups that are gone. */
const PRUNED_KINDS = new Set(['PodDisruptionBudget', 'NetworkPolicy']);

function unusedChildren(
  observed: Observed,
  apply: readonly ChildObject[],
  claims: ReadonlySet<string>,
): ChildObject[] {
  const wanted = new Set(apply.map(({ kind, metadata }) => `${kind} ${metadata.name}`));
  return observed.children.filter(({ kind, metadata }) => {
    if (metadata.deletionTimestamp !== undefined) return false;
    if (kind === 'ResourceClaim') return !claims.has(metadata.name);
    return PRUNED_KINDS.has(kind) && !wanted.has(`${kind} ${metadata.name}`);
  });
}

function staleReports(deployment: InternVLDeployment, observed: Observed): string[] {
  const name = routersConfigMapName(deployment.metadata.name);
  const configMap = observed.children.find(
    (child) => child.kind === 'ConfigMap' && child.metadata.name === name,
  );
  const data = configMap?.['data'];
  if (typeof data !== 'object' || data === null) return [];
  const alive = new Set(observed.routerPods.map(({ metadata }) => metadata?.name));
  return Object.keys(data).filter((router) => !alive.has(router));
}
