// One tensor-parallel group as its pods, the routers' reports and the nodes tell of it. Pure; everything that decides reads groups, never pods.
import type { V1Pod, V1PodCondition } from '@kubernetes/client-node';
import { LABELS, ROUTER_ACKNOWLEDGED } from './api.ts';
import type { InterconnectReport } from './interconnect-report.ts';
import type { Observed, ReplicaReport, UnmadeGroup } from './observed.ts';
import {
  cannotStart,
  conditionOf,
  containersReady,
  createdAt,
  drainOf,
  ends,
  gateOf,
  hasStarted,
  isPlaced,
  isTerminating,
  labelOf,
  rankOf,
  startedAt,
  timeOf,
  uidOf,
  unschedulable,
  type RankEnd,
} from './rank-pod.ts';

export type GroupPhase =
  | 'Scheduling'
  | 'Starting'
  | 'Loading'
  | 'Acknowledging'
  | 'Ready'
  | 'Draining'
  | 'Failed'
  | 'Terminating'
  /** No pods; made again later. */
  | 'Backoff'
  /** No pods; left down. */
  | 'Down';

/** Why all pods of a group have to go. */
export interface GroupFailure {
  readonly kind: 'ended' | 'deleted' | 'nodeLost' | 'unplaced';
  readonly reason: string;
  readonly message: string;
}

export interface Group {
  readonly name: string;
  readonly revision: string;
  readonly index: number;
  /** In rank order, terminating ones included. */
  readonly pods: readonly V1Pod[];
  readonly leader: V1Pod | undefined;
  readonly node: string | undefined;
  readonly phase: GroupPhase;
  /** Every pod is being deleted. */
  readonly terminating: boolean;
  readonly failure: GroupFailure | undefined;
  readonly ends: readonly RankEnd[];
  /** Pods that a cut-short creation still owes, or that were deleted. */
  readonly missing: number;
  /** Why this process could not create all pods so far; undefined = it did, or another process left it so. */
  readonly unmade: UnmadeGroup | undefined;
  readonly createdAt: number;
  /** Since when routers have acknowledged it without a failure, 0 = never. */
  readonly acknowledgedAt: number;
  readonly containersReady: boolean;
  /** Routers' last word on it was good; while it drains that word stands. */
  readonly acknowledged: boolean;
  /** Routers send it work: containers ready, acknowledged, not draining. */
  readonly ready: boolean;
  /** The gate condition to be written; undefined = it stands as it should. */
  readonly gate: V1PodCondition | undefined;
  readonly drainSince: string | undefined;
  /** Routers may have work on it. */
  readonly needsDrain: boolean;
  /** No router has work on it any more, or the deadline has passed. */
  readonly drained: boolean;
  /** When `drained` is to be asked again, 0 = only when something changes. */
  readonly drainDeadline: number;
  readonly cordoned: boolean;
  readonly lost: boolean;
  /** When it will count as lost if its node stays as it is, 0 = not by the passing of time. */
  readonly lostDeadline: number;
  readonly cannotStart:
    { readonly rank: number; readonly reason: string; readonly message: string } | undefined;
  /** What the scheduler lacks, of the first rank without a place. */
  readonly unschedulable: { readonly rank: number; readonly message: string } | undefined;
  readonly partlyPlaced: boolean;
  /** By when it must have its places: counted anew from the first rank that found one, since the others are only then known to have a node to go to. */
  readonly placementDeadline: number;
  /** What it waits for, in words; empty when Ready. */
  readonly message: string;
  readonly coldStart: ColdStart;
  /** What this attempt of it measured, as a router says. */
  readonly interconnect: InterconnectReport | undefined;
}

/** Seconds of each phase that is over; absent = not over. */
export interface ColdStart {
  readonly schedulingSeconds?: number;
  readonly startingSeconds?: number;
  readonly loadingSeconds?: number;
  readonly acknowledgingSeconds?: number;
}

export interface GroupContext {
  readonly observed: Observed;
  /** Pods of a whole group of a revision; undefined where its template is gone. */
  readonly podsOf: (revision: string) => number | undefined;
  readonly placementTimeoutMs: number;
  /** Whether the attempt with this name keeps away from nodes on which an earlier one found only a part of its places. */
  readonly avoidsNodes: (name: string) => boolean;
  /** How long a node may be not ready before its groups are given up. */
  readonly nodeLostTimeoutMs: number;
  readonly drainTimeoutMs: number;
  readonly now: number;
}

/** A node that a pod was just bound to may not be in the cache yet. */
const NODE_GRACE_MS = 60_000;
/** How long a router that says nothing of a draining pod is given to have seen the drain. */
const DRAIN_SETTLE_MS = 2_000;

/** All groups that have pods, by revision and index. */
export function classify(context: GroupContext): Group[] {
  const byName = new Map<string, V1Pod[]>();
  for (const pod of context.observed.pods) {
    const name = labelOf(pod, LABELS.group);
    if (name === undefined || labelOf(pod, LABELS.revision) === undefined) continue;
    const pods = byName.get(name);
    if (pods === undefined) byName.set(name, [pod]);
    else pods.push(pod);
  }
  return [...byName]
    .map(([name, pods]) => classifyGroup(name, pods, context))
    .toSorted((a, b) => (a.revision < b.revision ? -1 : a.revision > b.revision ? 1 : a.index - b.index));
}

function classifyGroup(name: string, unordered: readonly V1Pod[], context: GroupContext): Group {
  const pods = unordered.toSorted((a, b) => rankOf(a) - rankOf(b));
  const [first] = pods;
  const revision = first === undefined ? '' : (labelOf(first, LABELS.revision) ?? '');
  const index = Number(first === undefined ? 0 : (labelOf(first, LABELS.replica) ?? 0));
  const leader = pods.find((pod) => rankOf(pod) === 0);
  const missing = Math.max(0, (context.podsOf(revision) ?? pods.length) - pods.length);
  const terminating = pods.every(isTerminating);
  const born = Math.min(...pods.map((pod) => createdAt(pod) || context.now));
  const nodes = pods.flatMap((pod) => (isPlaced(pod) ? [pod.spec?.nodeName ?? ''] : []));
  const lossTimes = pods.flatMap((pod) => lossTime(pod, name, leader, context) ?? []);
  const lost = lossTimes.some((time) => time <= context.now);
  const reports = reportsOf(name, leader, context.observed);
  const gate = leader === undefined ? undefined : gateFor(leader, reports, context.now);
  const acknowledged = (gate ?? gateOf(leader))?.status === 'True';
  const ready = missing === 0 && pods.every((pod) => containersReady(pod) && !isTerminating(pod));
  const drainSince = validDrain(leader, context);
  const waiting = pods.find((pod) => !isPlaced(pod));
  const unplaced = waiting === undefined ? undefined : unschedulable(waiting);
  const partlyPlaced = nodes.length > 0 && (missing > 0 || unplaced !== undefined);
  const ended = pods.flatMap(ends);
  const blocked = pods.map(cannotStart).find((why) => why !== undefined);

  const partial = {
    name,
    revision,
    index,
    pods,
    leader,
    node: nodes[0],
    terminating,
    ends: ended,
    missing,
    unmade: context.observed.unmade?.get(name),
    createdAt: born,
    acknowledgedAt: timeOf(gateOf(leader)?.lastProbeTime),
    containersReady: ready,
    acknowledged,
    ready: ready && acknowledged && drainSince === undefined && !lost,
    gate,
    drainSince,
    cordoned: nodes.some((node) => context.observed.nodes.get(node)?.schedulable === false),
    lost,
    lostDeadline: lost || lossTimes.length === 0 ? 0 : Math.min(...lossTimes),
    cannotStart: blocked,
    unschedulable:
      waiting === undefined || unplaced === undefined
        ? undefined
        : { rank: rankOf(waiting), message: unplaced },
    partlyPlaced,
    placementDeadline: Math.max(born, firstPlacedAt(pods)) + context.placementTimeoutMs,
    coldStart: coldStartOf(pods, gate ?? gateOf(leader)),
    interconnect: reports.find(({ replica }) => replica?.interconnect)?.replica?.interconnect,
    ...drainState(leader, ready || acknowledged, drainSince, reports, context),
  };
  const failure = failureOf(partial, context);
  const phase = phaseOf(partial, failure);
  return { ...partial, failure, phase, message: messageOf(partial, failure, phase, reports) };
}

type Unjudged = Omit<Group, 'failure' | 'phase' | 'message'>;

/** The reasons to give up a group, in the order in which they are told. */
function failureOf(group: Unjudged, context: GroupContext): GroupFailure | undefined {
  if (group.terminating) return undefined;
  if (group.lost)
    return {
      kind: 'nodeLost',
      reason: 'NodeLost',
      message: `node ${group.node} is not ready or gone`,
    };
  const [end] = group.ends.toSorted((a, b) => a.at - b.at);
  if (end !== undefined)
    return { kind: 'ended', reason: end.reason, message: `rank ${end.rank} ended: ${describeEnd(end)}` };
  const going = group.pods.filter(isTerminating);
  // The first ranks may run before the last one can be created: a quota, an API server that fails.
  const gone = group.missing > 0 && group.unmade === undefined && group.pods.some(hasStarted);
  if (going.length > 0 || gone) {
    const ranks = going.map((pod) => rankOf(pod)).join(', ');
    const what = going.length > 0 ? `rank ${ranks}'s pod is being deleted` : "a rank's pod is gone";
    return { kind: 'deleted', reason: 'PodDeleted', message: `${what}, so the group cannot go on` };
  }
  const late = context.now >= group.placementDeadline;
  if (late && (group.partlyPlaced || (group.missing > 0 && !group.containersReady))) {
    const lack =
      group.unschedulable?.message ?? `${group.missing} of its pods could not be created${refusalOf(group)}`;
    return {
      kind: 'unplaced',
      reason: 'PartlyPlaced',
      message: `only a part of the group found a place: ${lack}`,
    };
  }
  // The node that is avoided may by now be the one with room.
  if (late && group.unschedulable !== undefined && context.avoidsNodes(group.name))
    return {
      kind: 'unplaced',
      reason: 'NoOtherPlace',
      message: `no place was found elsewhere than on a node that had too few: ${group.unschedulable.message}`,
    };
  return undefined;
}

/** An API server that merely fails is the operator's matter; what it refuses is the user's. */
function refusalOf({ unmade }: Pick<Group, 'unmade'>): string {
  return unmade?.refused === true ? `: ${unmade.message}` : '';
}

/** A rank's end in words. */
export function describeEnd({ exitCode, reason }: Pick<RankEnd, 'exitCode' | 'reason'>): string {
  return exitCode === undefined ? reason : `${reason}, exit code ${exitCode}`;
}

function phaseOf(group: Unjudged, failure: GroupFailure | undefined): GroupPhase {
  if (group.terminating) return 'Terminating';
  if (failure !== undefined) return 'Failed';
  if (group.drainSince !== undefined) return 'Draining';
  if (group.ready) return 'Ready';
  if (group.containersReady) return 'Acknowledging';
  if (group.missing > 0 || !group.pods.every(isPlaced)) return 'Scheduling';
  return group.pods.every(hasStarted) ? 'Loading' : 'Starting';
}

function messageOf(
  group: Unjudged,
  failure: GroupFailure | undefined,
  phase: GroupPhase,
  reports: readonly RouterSays[],
): string {
  if (failure !== undefined) return failure.message;
  if (group.cannotStart !== undefined) {
    const { rank, reason, message } = group.cannotStart;
    return `rank ${rank}: ${reason}: ${message}`;
  }
  switch (phase) {
    case 'Scheduling':
      if (group.unschedulable !== undefined)
        return `rank ${group.unschedulable.rank}: ${group.unschedulable.message}`;
      return group.missing > 0
        ? `${group.missing} pods are still to be created${refusalOf(group)}`
        : 'waiting for the scheduler';
    case 'Starting':
      return 'images are pulled and containers started';
    case 'Loading':
      return 'weights are loaded';
    case 'Acknowledging': {
      const said = reports.find(({ replica }) => replica !== undefined);
      if (said?.replica === undefined) return 'no router has tried it yet';
      const { state, message } = said.replica;
      return `router ${said.router}: ${state}${message === '' ? '' : `: ${message}`}`;
    }
    case 'Draining':
      return `finishes its requests since ${group.drainSince}`;
    case 'Terminating':
      return 'its pods are being deleted';
    case 'Ready':
    case 'Failed':
    case 'Backoff':
    case 'Down':
      break;
  }
  return '';
}

/**
 * From when on a pod counts as lost with its node, if all stays as it is: its node is gone or has not been ready for long enough, and no router has its
 * work done by it nevertheless. When no node is ready, it was the API server that did not hear from them, and nothing is lost.
 */
function lossTime(
  pod: V1Pod,
  group: string,
  leader: V1Pod | undefined,
  context: GroupContext,
): number | undefined {
  const { nodes } = context.observed;
  if (!isPlaced(pod) || [...nodes.values()].every(({ ready }) => !ready)) return undefined;
  const node = nodes.get(pod.spec?.nodeName ?? '');
  if (node?.ready === true) return undefined;
  const says = reportsOf(group, leader, context.observed).filter(({ live }) => live);
  if (says.some(({ replica }) => replica?.state === 'ready')) return undefined;
  if (node !== undefined) return (node.notReadySince ?? 0) + context.nodeLostTimeoutMs;
  const bound = timeOf(conditionOf(pod, 'PodScheduled')?.lastTransitionTime) || createdAt(pod);
  return bound + NODE_GRACE_MS;
}

interface RouterSays {
  readonly router: string;
  /** Its word on readiness counts. A router that is not live may still have work under way. */
  readonly live: boolean;
  readonly replica: ReplicaReport | undefined;
  readonly reported: boolean;
}

/** What each router that runs says of the group; reports about an older pod of the same name are none. */
function reportsOf(group: string, leader: V1Pod | undefined, observed: Observed): RouterSays[] {
  return observed.routerPods.flatMap((pod): RouterSays[] => {
    if (pod.status?.phase !== 'Running') return [];
    const node = observed.nodes.get(pod.spec?.nodeName ?? '');
    if (node !== undefined && !node.ready) return [];
    const report = observed.reports.find(
      ({ router, routerUid }) => router === pod.metadata?.name && routerUid === uidOf(pod),
    );
    const replica = report?.replicas[group];
    return [
      {
        router: pod.metadata?.name ?? '',
        live: !isTerminating(pod) && conditionOf(pod, 'Ready')?.status === 'True',
        replica: leader !== undefined && replica?.podUid === uidOf(leader) ? replica : undefined,
        reported: report !== undefined,
      },
    ];
  });
}

/** The gate as live routers would have it; undefined = as it stands. A group that drains keeps its own until it is wanted again. */
function gateFor(leader: V1Pod, reports: readonly RouterSays[], now: number): V1PodCondition | undefined {
  if (isTerminating(leader) || drainOf(leader) !== undefined) return undefined;
  const speaking = reports.filter(({ live, reported }) => live && reported);
  if (speaking.length === 0) return undefined;
  const before = gateOf(leader);
  const states = speaking.flatMap(({ replica }) => (replica === undefined ? [] : [replica]));
  const acknowledged = states.some(({ state }) => state === 'ready');
  // Absent is as good as False: no write for a group that nobody has acknowledged yet.
  if (before === undefined ? !acknowledged : (before.status === 'True') === acknowledged) return undefined;
  const first = states[0];
  const at = new Date(now).toISOString();
  const condition = {
    type: ROUTER_ACKNOWLEDGED,
    status: acknowledged ? 'True' : 'False',
    reason: acknowledged ? 'Acknowledged' : first === undefined ? 'NotKnown' : capitalised(first.state),
    message: acknowledged
      ? 'a generation has passed through all ranks'
      : (first?.message ?? 'no live router knows this pod'),
    lastTransitionTime: at,
    // When it was first acknowledged: how long the group has served is measured from here, through interruptions.
    lastProbeTime: before?.lastProbeTime ?? (acknowledged ? at : null),
  };
  return condition as unknown as V1PodCondition; // times are strings on the wire
}

/** The drain's start; one that is no time or lies in the future is as good as none, and set anew. */
function validDrain(leader: V1Pod | undefined, context: GroupContext): string | undefined {
  const since = drainOf(leader);
  const at = timeOf(since);
  return since !== undefined && at > 0 && at <= context.now + context.drainTimeoutMs ? since : undefined;
}

function drainState(
  leader: V1Pod | undefined,
  serves: boolean,
  since: string | undefined,
  reports: readonly RouterSays[],
  { now, drainTimeoutMs }: GroupContext,
): Pick<Group, 'needsDrain' | 'drained' | 'drainDeadline'> {
  const busy = reports.some(({ replica }) => replica !== undefined && replica.state !== 'connecting');
  const needsDrain = leader !== undefined && !isTerminating(leader) && (serves || busy);
  if (since === undefined) return { needsDrain, drained: false, drainDeadline: 0 };
  const start = timeOf(since);
  const deadline = start + drainTimeoutMs;
  if (now >= deadline) return { needsDrain, drained: true, drainDeadline: 0 };
  const settled = Math.min(deadline, start + DRAIN_SETTLE_MS);
  // A report about an earlier drain of the same pod says nothing of this one.
  const isDone = ({ replica }: RouterSays): boolean =>
    replica?.state === 'drained' && (replica.drain === undefined ? now >= settled : replica.drain === since);
  const isSilent = ({ replica }: RouterSays): boolean => replica === undefined;
  const open = reports.filter((says) => !isDone(says));
  const onlySilent = open.every(isSilent);
  const drained = open.length === 0 || (onlySilent && now >= settled);
  return { needsDrain, drained, drainDeadline: drained ? 0 : now < settled ? settled : deadline };
}

/** When the scheduler first found a place for one of them, 0 = for none. */
function firstPlacedAt(pods: readonly V1Pod[]): number {
  const times = pods.filter(isPlaced).map((pod) => trueSince(conditionOf(pod, 'PodScheduled')));
  return times.length === 0 ? 0 : Math.min(...times);
}

function coldStartOf(pods: readonly V1Pod[], gate: V1PodCondition | undefined): ColdStart {
  const latest = (times: readonly number[]): number => (times.includes(0) ? 0 : Math.max(...times));
  const created = Math.min(...pods.map(createdAt));
  const scheduled = latest(pods.map((pod) => trueSince(conditionOf(pod, 'PodScheduled'))));
  const started = latest(pods.map(startedAt));
  const loaded = latest(pods.map((pod) => trueSince(conditionOf(pod, 'ContainersReady'))));
  const acknowledged = gate?.status === 'True' ? timeOf(gate.lastProbeTime ?? gate.lastTransitionTime) : 0;
  const seconds = (from: number, to: number): number => Math.max(0, Math.round((to - from) / 1000));
  return {
    ...(scheduled > 0 && created > 0 && { schedulingSeconds: seconds(created, scheduled) }),
    ...(started > 0 && scheduled > 0 && { startingSeconds: seconds(scheduled, started) }),
    ...(loaded > 0 && started > 0 && { loadingSeconds: seconds(started, loaded) }),
    ...(acknowledged > 0 && loaded > 0 && { acknowledgingSeconds: seconds(loaded, acknowledged) }),
  };
}

function trueSince(condition: V1PodCondition | undefined): number {
  return condition?.status === 'True' ? timeOf(condition.lastTransitionTime) : 0;
}

function capitalised(word: string): string {
  return word.charAt(0).toUpperCase() + word.slice(1);
}
