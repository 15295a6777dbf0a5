// What is told of a deployment, from what was seen and planned. Pure, and equal for equal input but for transition times: nothing is written at rest.
import type { InternVLDeployment } from '../gen/crd/internvl-deployment.ts';
import { COMPONENTS, LABELS } from './api.ts';
import { CHECKS, judge, readyGroups, type Facts } from './conditions.ts';
import { evidenceOf, type FailureEntry } from './failures.ts';
import type { ColdStart, Group } from './group.ts';
import { keptInterconnects, type KeptInterconnect } from './measured-interconnect.ts';
import { baseName, routerName } from './names.ts';
import type { Observed } from './observed.ts';
import type { Plan } from './plan.ts';

export interface Condition {
  readonly type: string;
  readonly status: 'True' | 'False' | 'Unknown';
  readonly reason: string;
  readonly message: string;
  readonly lastTransitionTime: string;
  readonly observedGeneration?: number;
}

export interface GroupStatus {
  readonly name: string;
  readonly revision: string;
  readonly node?: string;
  readonly phase: string;
  readonly ready: boolean;
  readonly restarts: number;
  readonly message: string;
  readonly coldStart?: ColdStart;
  readonly interconnect?: KeptInterconnect;
}

export interface LastFailure {
  readonly group: string;
  readonly rank: number;
  readonly exitCode?: number;
  readonly reason: string;
  readonly lastLines: readonly string[];
  readonly time: string;
}

export interface DeploymentStatus {
  readonly observedGeneration?: number;
  readonly replicas: number;
  readonly readyReplicas: number;
  readonly updatedReplicas: number;
  readonly ready: string;
  readonly phase: string;
  readonly selector: string;
  readonly endpoint: string;
  readonly currentRevision: string;
  readonly conditions: readonly Condition[];
  readonly groups: readonly GroupStatus[];
  readonly groupsOmitted?: number;
  readonly lastFailure?: LastFailure;
}

const MAX_GROUPS = 32;
const MAX_MESSAGE = 1024;

/** The whole status of `deployment`. `errors`: what the API server refused of the plan. */
export function status(
  deployment: InternVLDeployment,
  observed: Observed,
  plan: Plan,
  errors: readonly Error[],
  now: number,
): InternVLDeployment['status'] {
  const { metadata, spec } = deployment;
  const before = deployment.status as Partial<DeploymentStatus> | undefined;
  const interconnects = keptInterconnects(plan.groups, before?.groups ?? []);
  const measured = [...interconnects].map(([name, report]) => ({ name, report }));
  const facts: Facts = { deployment, observed, plan, errors, measured };
  const ready = readyGroups(facts);
  const existing = plan.groups.filter(({ terminating }) => !terminating);
  const groups = [
    ...existing.map((group) => groupStatus(group, plan, interconnects.get(group.name))),
    ...plan.waiting.map(slotStatus),
  ];
  const failure = lastFailure(plan, before?.lastFailure);
  const told: DeploymentStatus = {
    ...(metadata.generation !== undefined && { observedGeneration: metadata.generation }),
    replicas: existing.length,
    readyReplicas: ready.length,
    updatedReplicas: existing.filter(({ revision }) => revision === plan.revision).length,
    ready: `${ready.length}/${spec.replicas}`,
    phase: phaseOf(deployment, plan, ready.length),
    selector: selectorOf(deployment),
    endpoint: `${routerName(metadata.name)}.${metadata.namespace ?? 'default'}.svc:${spec.router.service.grpcPort}`,
    currentRevision: plan.revision,
    conditions: conditionsOf(facts, before?.conditions ?? [], now),
    groups: groups.slice(0, MAX_GROUPS),
    ...(groups.length > MAX_GROUPS && { groupsOmitted: groups.length - MAX_GROUPS }),
    ...(failure && { lastFailure: failure }),
  };
  return told as unknown as InternVLDeployment['status'];
}

/** lastTransitionTime moves only when the status flips. */
function conditionsOf(facts: Facts, before: readonly Condition[], now: number): Condition[] {
  const { generation } = facts.deployment.metadata;
  return CHECKS.map(([type, checks]) => {
    const verdict = judge(checks, facts);
    const previous = before.find((condition) => condition.type === type);
    const flipped = previous?.status !== verdict.status;
    return {
      type,
      status: verdict.status,
      reason: verdict.reason,
      message: clipped(verdict.message),
      lastTransitionTime: flipped
        ? new Date(now).toISOString().replace(/\.\d+Z$/, 'Z')
        : previous.lastTransitionTime,
      ...(generation !== undefined && { observedGeneration: generation }),
    };
  });
}

function phaseOf({ spec }: InternVLDeployment, plan: Plan, ready: number): string {
  const { phase, blocked } = plan.rollout;
  if (blocked !== undefined) return blocked.reason;
  if (phase === 'Failed') return ready > 0 ? 'RolloutFailed' : 'Failed';
  if (phase === 'RollingOut' || phase === 'Moving' || phase === 'ScalingDown') return phase;
  if (spec.replicas === 0) return 'ScaledToZero';
  if (ready >= spec.replicas) return 'Serving';
  if (plan.waiting.some(({ entry }) => entry.retryAt === undefined)) return 'Degraded';
  return ready > 0 ? 'PartlyServing' : 'Starting';
}

/** Rank 0 of every group, one pod a replica: what a scaler counts and measures. */
function selectorOf(deployment: InternVLDeployment): string {
  const { topology } = deployment.spec.tensorParallel;
  const labels = [
    `${LABELS.deployment}=${baseName(deployment.metadata.name)}`,
    `${LABELS.component}=${COMPONENTS.runtime}`,
    ...(topology === 'PodPerRank' ? [`${LABELS.rank}=0`] : []),
  ];
  return labels.join(',');
}

function groupStatus(group: Group, plan: Plan, interconnect: KeptInterconnect | undefined): GroupStatus {
  const { name, revision, node, phase, ready, message, coldStart } = group;
  return {
    name,
    revision,
    ...(node !== undefined && { node }),
    phase,
    ready,
    restarts: plan.remembered.get(name)?.failures ?? 0,
    message: clipped(message),
    ...(Object.keys(coldStart).length > 0 && { coldStart }),
    ...(interconnect && { interconnect }),
  };
}

function slotStatus({ name, revision, entry }: Plan['waiting'][number]): GroupStatus {
  const down = entry.retryAt === undefined;
  const message = down
    ? `left down: ${evidenceOf(entry)}`
    : `made again at ${entry.retryAt}: ${evidenceOf(entry)}`;
  return {
    name,
    revision,
    phase: down ? 'Down' : 'Backoff',
    ready: false,
    restarts: entry.failures,
    message: clipped(message),
  };
}

/** The newest failure known; one that was told before is kept after its group is forgotten. */
function lastFailure(plan: Plan, before: LastFailure | undefined): LastFailure | undefined {
  let newest = before;
  for (const [group, entry] of plan.remembered)
    if (entry.kind === 'ended' && (newest === undefined || entry.time >= newest.time))
      newest = told(group, entry);
  return newest;
}

function told(group: string, entry: FailureEntry): LastFailure {
  const { rank, exitCode, reason, lastLines, time } = entry;
  return { group, rank, ...(exitCode !== undefined && { exitCode }), reason, lastLines, time };
}

function clipped(message: string): string {
  return message.length <= MAX_MESSAGE ? message : `${message.slice(0, MAX_MESSAGE - 1)}…`;
}
