// The operator in a simulated cluster: reconciles by plan(), and asks after each one whether its promises were kept.
import type { InternVLDeployment } from '../../gen/crd/internvl-deployment.ts';
import { LABELS } from '../../operator/api.ts';
import type { Observed } from '../../operator/observed.ts';
import { plan, type Plan } from '../../operator/plan.ts';
import { aDeployment, PLAN_CONFIG } from './deployment.ts';
import { seededRandom } from './seeded-random.ts';
import { SimulatedCluster } from './simulated-cluster.ts';

export const STEP_MS = 500;

export interface World {
  readonly cluster: SimulatedCluster;
  readonly random: () => number;
  deployment: InternVLDeployment;
  /** The newest picture that the operator must not be older than: its own last pod write. */
  seen: Observed;
  trail: string[];
}

export function aWorld(seed: number, spec: Record<string, unknown>, nodes: readonly number[]): World {
  const random = seededRandom(seed * 7919 + 1);
  for (let i = 0; i < 5; i++) random();
  const cluster = new SimulatedCluster(random, nodes);
  const deployment = aDeployment({
    rollout: { drainTimeout: '20s', progressDeadline: '90s', maxGroupRestarts: 2 },
    ...spec,
  });
  return { cluster, random, deployment, seen: cluster.observed(), trail: [] };
}

/** One reconcile on a picture that may be old (except for pods that it wrote itself), cut off after `writes` writes. */
export function reconcile(world: World, stale = false, writes = Number.POSITIVE_INFINITY): Plan {
  const { cluster } = world;
  const observed = stale ? world.seen : cluster.observed();
  const planned = plan(world.deployment, observed, PLAN_CONFIG, cluster.now);
  let left = writes;
  const readyBefore = cluster.readyGroups();
  const done = cluster.carryOut(planned, () => left-- > 0);
  const text = summary(planned);
  if (text !== '')
    world.trail.push(
      `${(cluster.now / 1000) % 100000}: ${text}${done < Infinity && left < 0 ? ' (cut off)' : ''}`,
    );
  if (done > 0 || !stale) world.seen = cluster.observed();
  check(world, planned, readyBefore);
  return planned;
}

export function summary({ create, drain, remove, rollout }: Plan): string {
  const parts = [
    ...create.map(({ name }) => `+${name}`),
    ...drain.map(({ pod, since }) => `${since === undefined ? 'undrain' : 'drain'} ${pod.metadata?.name}`),
    ...remove.map(({ pod, why }) => `-${pod.metadata?.name} (${why})`),
  ];
  return parts.length === 0 ? '' : `[${rollout.phase}/${rollout.mode}] ${parts.join(' ')}`;
}

export function check(world: World, planned: Plan, readyBefore: readonly string[]): void {
  const { cluster, deployment } = world;
  const { replicas } = deployment.spec;
  const going = new Set(planned.remove.map(({ pod }) => pod.metadata?.labels?.[LABELS.group]));
  const now = new Set(cluster.readyGroups());
  const left = new Set(
    [...planned.remove, ...planned.drain].map(({ pod }) => pod.metadata?.labels?.[LABELS.group]),
  );
  const taken = readyBefore.filter((group) => !now.has(group) && left.has(group));
  const floor = Math.max(0, Math.min(replicas, readyBefore.length) - 1);
  if (taken.length > 0 && now.size < floor)
    cluster.violations.push(
      `${taken.join(' ')} taken: ${now.size} serve, ${readyBefore.length} did, ${replicas} wanted`,
    );
  for (const group of going) {
    const whole = cluster.groups().get(group ?? '') ?? [];
    const removed = planned.remove.filter(({ pod }) => pod.metadata?.labels?.[LABELS.group] === group);
    const unseen = whole.filter(
      (pod) => !planned.groups.some(({ pods }) => pods.some(({ metadata }) => metadata?.uid === pod.uid)),
    );
    const rest = whole.filter(
      ({ deletedAt, uid }) => deletedAt === 0 && removed.every(({ pod }) => pod.metadata?.uid !== uid),
    );
    if (rest.length > unseen.length) cluster.violations.push(`${group} was removed in part`);
  }
}

/** Groups that take part: neither all terminating nor on a lost node. */
export function checkCount(world: World, allowed: number): void {
  const { cluster } = world;
  const groups = [...cluster.groups().values()].filter((pods) =>
    pods.some(
      ({ deletedAt, node, exit }) =>
        deletedAt === 0 &&
        exit === undefined &&
        (node === undefined || cluster.nodes.get(node)?.ready === true),
    ),
  );
  if (groups.length > allowed)
    cluster.violations.push(
      `${groups.length} groups where ${allowed} are allowed: ${groups.map(([pod]) => pod?.group).join(' ')}`,
    );
}

/** Steps until the plan is empty and stays so; false when that never happens. */
export function settle(world: World, minutes: number): boolean {
  // What was on nodes that were not ready takes part again, and may first have to drain.
  const settling = 60_000 / STEP_MS;
  const before = world.cluster.groups().size;
  for (let still = 0, step = 0; step < (minutes * 60_000) / STEP_MS; step++) {
    world.cluster.tick(STEP_MS);
    const planned = reconcile(world);
    still =
      isEmpty(planned) && world.cluster.readyGroups().length === world.deployment.spec.replicas
        ? still + 1
        : 0;
    checkCount(world, Math.max(world.deployment.spec.replicas + 1, step < settling ? before : 0));
    if (still > 20) return true;
  }
  return false;
}

export function isEmpty({ create, remove, drain, gates, failures, prune, requeueAfterMs }: Plan): boolean {
  const writes = create.length + remove.length + drain.length + gates.length + prune.length;
  return writes === 0 && failures === undefined && (requeueAfterMs ?? Infinity) > 60_000;
}

export function verdict(world: World): string {
  return [
    ...world.cluster.violations,
    ...(world.cluster.violations.length > 0 ? world.trail.slice(-60) : []),
  ].join('\n');
}
