// The conditions of a deployment, each decided by a list of checks: the first that has something to say is the condition. Every reason is documented in
// docs/operations.md. Pure.
import type { V1Deployment } from '@kubernetes/client-node';
import type { InternVLDeployment } from '../gen/crd/internvl-deployment.ts';
import { CONDITIONS } from './api.ts';
import { evidenceOf } from './failures.ts';
import type { Group } from './group.ts';
import type { Observed } from './observed.ts';
import { interconnectVerdict, slowInterconnect, type MeasuredGroup } from './measured-interconnect.ts';
import { routerName } from './names.ts';
import type { Plan } from './plan.ts';

export interface Facts {
  readonly deployment: InternVLDeployment;
  readonly observed: Observed;
  readonly plan: Plan;
  readonly errors: readonly Error[];
  /** Groups of which it is known how their ranks reach each other. */
  readonly measured: readonly MeasuredGroup[];
}

export interface Verdict {
  readonly status: 'True' | 'False' | 'Unknown';
  readonly reason: string;
  readonly message: string;
}

type Check = (facts: Facts) => Verdict | undefined;

const yes = (reason: string, message: string): Verdict => ({ status: 'True', reason, message });
const no = (reason: string, message: string): Verdict => ({ status: 'False', reason, message });
const unknown = (reason: string, message: string): Verdict => ({ status: 'Unknown', reason, message });

const blocked: Check = ({ plan }) =>
  plan.rollout.blocked && no(plan.rollout.blocked.reason, plan.rollout.blocked.message);

const scaledToZero =
  (verdict: typeof yes): Check =>
  ({ deployment }) =>
    deployment.spec.replicas === 0 ? verdict('ScaledToZero', 'spec.replicas is 0') : undefined;

const noReplicaServes: Check = (facts) => {
  if (readyGroups(facts).length > 0) return undefined;
  return no('NoReplicaReady', whyNotReady(facts) ?? 'no replica serves yet');
};

const routerDown: Check = (facts) => {
  const state = routerState(facts);
  return state.status === 'True' ? undefined : no('RouterNotReady', state.message);
};

const refusedWrite: Check = ({ errors }) => {
  const [first] = errors.filter((error) => !isCollision(error));
  return first === undefined ? undefined : no('WriteRefused', first.message);
};

const READY: readonly Check[] = [
  blocked,
  scaledToZero(no),
  (facts) => {
    const ready = readyGroups(facts).length;
    const wanted = facts.deployment.spec.replicas;
    if (ready >= wanted) return undefined;
    const why = whyNotReady(facts);
    const short = `${ready} of ${wanted} replicas are ready`;
    return no('ReplicasNotReady', why === undefined ? short : `${short}: ${why}`);
  },
  routerDown,
  ({ plan }) =>
    plan.rollout.phase === 'Failed' && plan.rollout.failed
      ? no('RolloutFailed', `an older revision serves: ${plan.rollout.failed.message}`)
      : undefined,
  () => yes('AllReplicasReady', 'all replicas are ready'),
];

const AVAILABLE: readonly Check[] = [
  scaledToZero(no),
  routerDown,
  noReplicaServes,
  (facts) => yes('ReplicasReady', `${readyGroups(facts).length} replicas serve`),
];

const PROGRESSING: readonly Check[] = [
  ({ plan }) => plan.rollout.failed && no(plan.rollout.failed.reason, plan.rollout.failed.message),
  refusedWrite,
  (facts) => {
    const { phase, waitingFor } = facts.plan.rollout;
    if (phase === 'Stable') return undefined;
    const reason =
      phase === 'Creating' ? 'ReplicasStarting' : phase === 'Moving' ? 'MovingOffCordonedNode' : phase;
    return yes(reason, waitingFor === '' ? PROGRESS_TEXT[phase] : waitingFor);
  },
  () => yes('Complete', 'what is wanted is there'),
];

const PROGRESS_TEXT = {
  Stable: 'nothing is under way',
  Creating: 'replicas are made',
  RollingOut: 'replicas are replaced by the new revision',
  Moving: 'replicas are moved off a cordoned node',
  ScalingDown: 'replicas beyond the wanted number leave',
  Failed: 'the new revision failed',
} as const;

const MODEL_LOADED: readonly Check[] = [
  ({ plan }) =>
    plan.rollout.blocked?.reason === 'SourceNotSupported' ? blocked({ plan } as Facts) : undefined,
  ({ plan }) => (plan.groups.some(isLoaded) ? yes('Loaded', 'a replica has the model in memory') : undefined),
  scaledToZero(unknown),
  (facts) => no('NotLoaded', whyNotReady(facts) ?? 'no replica has loaded the model yet'),
];

const ROUTER_READY: readonly Check[] = [(facts) => routerState(facts)];

const INTERCONNECT: readonly Check[] = [
  ({ deployment, measured, plan }) => interconnectVerdict(deployment, measured, plan.remembered),
];

const DEGRADED: readonly Check[] = [
  ({ errors }) => {
    const collision = errors.find(isCollision);
    return collision && yes('NameCollision', collision.message);
  },
  ({ plan }) => {
    for (const { name, entry } of plan.waiting)
      if (entry.kind === 'ended' && entry.retryAt === undefined)
        return yes('RestartBudgetExhausted', `replica ${name} is left down: ${evidenceOf(entry)}`);
    return undefined;
  },
  ({ plan }) => {
    const { phase, failed } = plan.rollout;
    return phase === 'Failed' && failed && !plan.rollout.blocked
      ? yes(failed.reason, failed.message)
      : undefined;
  },
  ({ errors }) => {
    const verdict = refusedWrite({ errors } as Facts);
    return verdict && yes(verdict.reason, verdict.message);
  },
  ({ plan }) => {
    const lost = plan.groups.find(({ lost, terminating }) => lost && !terminating);
    return lost && yes('NodeLost', `replica ${lost.name}: ${lost.message}`);
  },
  ({ plan }) => {
    const [down] = plan.waiting;
    return down && yes('ReplicaFailed', `replica ${down.name} failed: ${evidenceOf(down.entry)}`);
  },
  ({ deployment, measured }) => {
    const slow = slowInterconnect(deployment, measured);
    return slow === undefined ? undefined : yes('InterconnectSlow', slow);
  },
  () => no('AsExpected', 'nothing is wrong'),
];

/** Types in the order of the status, with their checks. */
export const CHECKS: readonly (readonly [type: string, checks: readonly Check[]])[] = [
  [CONDITIONS.ready, READY],
  [CONDITIONS.available, AVAILABLE],
  [CONDITIONS.progressing, PROGRESSING],
  [CONDITIONS.modelLoaded, MODEL_LOADED],
  [CONDITIONS.routerReady, ROUTER_READY],
  [CONDITIONS.interconnectVerified, INTERCONNECT],
  [CONDITIONS.degraded, DEGRADED],
];

/** The first verdict of a chain. */
export function judge(checks: readonly Check[], facts: Facts): Verdict {
  for (const check of checks) {
    const verdict = check(facts);
    if (verdict !== undefined) return verdict;
  }
  return unknown('NotDecided', 'no check had a word on it');
}

/** Groups that routers send work to. */
export function readyGroups({ plan }: Pick<Facts, 'plan'>): readonly Group[] {
  return plan.groups.filter(({ ready }) => ready);
}

/** The reason chain of the replica that is furthest from ready: which replica, which rank, what it lacks. */
function whyNotReady({ plan, errors }: Facts): string | undefined {
  const refused = errors[0];
  if (refused !== undefined) return refused.message;
  const trouble = plan.groups.find(
    (group) =>
      group.cannotStart !== undefined || group.unschedulable !== undefined || group.failure !== undefined,
  );
  const waiting = trouble ?? plan.groups.find(({ ready, terminating }) => !ready && !terminating);
  const [slot] = plan.waiting;
  if (trouble === undefined && slot !== undefined) return `replica ${slot.name} ${evidenceOf(slot.entry)}`;
  return waiting === undefined ? undefined : `replica ${waiting.name} ${waiting.message}`;
}

function isLoaded(group: Group): boolean {
  return group.containersReady && !group.terminating;
}

function isCollision(error: Error): boolean {
  return 'code' in error && error.code === 'name_collision';
}

function routerState({ deployment, observed }: Pick<Facts, 'deployment' | 'observed'>): Verdict {
  const wanted = deployment.spec.router.replicas;
  const name = routerName(deployment.metadata.name);
  const router = observed.children.find(
    ({ kind, metadata }) => kind === 'Deployment' && metadata.name === name,
  ) as V1Deployment | undefined;
  if (router === undefined) return no('RouterMissing', `the router's Deployment ${name} does not exist yet`);
  const ready = observed.routerPods.filter(isReadyPod).length;
  if (ready > 0) return yes('RouterReady', `${ready} of ${wanted} router pods are ready`);
  const waiting = observed.routerPods
    .flatMap(({ metadata, status }) =>
      (status?.containerStatuses ?? []).map(({ state }) => ({
        pod: metadata?.name,
        waiting: state?.waiting,
      })),
    )
    .find(({ waiting: state }) => state != null);
  const why =
    waiting === undefined
      ? ''
      : `: ${waiting.pod}: ${waiting.waiting?.reason} ${waiting.waiting?.message ?? ''}`.trimEnd();
  return no('RouterNotReady', `no router pod is ready${why}`);
}

function isReadyPod({ metadata, status }: Observed['routerPods'][number]): boolean {
  const ready = status?.conditions?.some(
    (condition) => condition.type === 'Ready' && condition.status === 'True',
  );
  return metadata?.deletionTimestamp === undefined && ready === true;
}
