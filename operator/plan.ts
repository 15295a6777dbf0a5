// From what is wanted and what is seen to what is to be done next. Pure and level-triggered: the same input gives the same plan, whatever happened before,
// and a plan of which only a part was carried out is completed by the next one.
import type { V1Pod, V1PodCondition } from '@kubernetes/client-node';
import type { InternVLDeployment } from '../gen/crd/internvl-deployment.ts';
import { blockedBy } from './blocked.ts';
import { afterRelease, ledgerChange, parseLedger, STABLE_MS, type FailureEntry } from './failures.ts';
import { classify, type Group } from './group.ts';
import { GroupWrites } from './group-writes.ts';
import { forget, recordFailure, stableRevision } from './ledger-update.ts';
import { replicaName } from './names.ts';
import { staleReports, unusedChildren } from './needless.ts';
import type { ChildObject, Observed } from './observed.ts';
import { millisecondsOf } from './quantity.ts';
import { children } from './resources/children.ts';
import { Revisions, type PlannedGroup } from './revisions.ts';
import { decideRollout, type RolloutDecision, type RolloutState, type Slot } from './rollout.ts';
import { freeIndexes, holdsPlace, overdueTimes, slotsOf } from './slots.ts';

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
  const writes = new GroupWrites(now);
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
