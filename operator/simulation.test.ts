// plan() drives a small simulated cluster in which everything goes wrong that can: what must hold is asked after every step, and once the world stops
// changing everything wanted must be there and nothing left to do. Every seed is a world of its own; a failure names it.
import { describe, expect, it } from 'vitest';
import { seededRandom } from '../test/support/seeded-random.ts';
import { aDeployment, PLAN_CONFIG } from '../test/support/deployment.ts';
import { BAD_IMAGES, GOOD_IMAGES, SimulatedCluster, withSpec } from '../test/support/simulated-cluster.ts';
import type { InternVLDeployment } from '../gen/crd/internvl-deployment.ts';
import { LABELS } from './api.ts';
import type { Observed } from './observed.ts';
import { plan, type Plan } from './plan.ts';

const STEP_MS = 500;
const SEEDS = 240;

interface World {
  readonly cluster: SimulatedCluster;
  readonly random: () => number;
  deployment: InternVLDeployment;
  /** The newest picture that the operator must not be older than: its own last pod write. */
  seen: Observed;
  trail: string[];
}

function aWorld(seed: number, spec: Record<string, unknown>, nodes: readonly number[]): World {
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
function reconcile(world: World, stale = false, writes = Number.POSITIVE_INFINITY): Plan {
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

function summary({ create, drain, remove, rollout }: Plan): string {
  const parts = [
    ...create.map(({ name }) => `+${name}`),
    ...drain.map(({ pod, since }) => `${since === undefined ? 'undrain' : 'drain'} ${pod.metadata?.name}`),
    ...remove.map(({ pod, why }) => `-${pod.metadata?.name} (${why})`),
  ];
  return parts.length === 0 ? '' : `[${rollout.phase}/${rollout.mode}] ${parts.join(' ')}`;
}

function check(world: World, planned: Plan, readyBefore: readonly string[]): void {
  const { cluster, deployment } = world;
  const { replicas } = deployment.spec;
  const going = new Set(planned.remove.map(({ pod }) => pod.metadata?.labels?.[LABELS.group]));
  const now = new Set(cluster.readyGroups());
  const taken = readyBefore.filter((group) => !now.has(group));
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
    const left = whole.filter(
      ({ deletedAt, uid }) => deletedAt === 0 && removed.every(({ pod }) => pod.metadata?.uid !== uid),
    );
    if (left.length > unseen.length) cluster.violations.push(`${group} was removed in part`);
  }
}

/** Groups that take part: neither all terminating nor on a lost node. */
function checkCount(world: World, allowed: number): void {
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

function disturb(world: World): void {
  const { cluster, random, deployment } = world;
  const pick = <T>(items: readonly T[]): T | undefined => items[Math.floor(random() * items.length)];
  const dice = random();
  const nodes = [...cluster.nodes];
  const pods = [...cluster.pods.values()].filter(({ deletedAt }) => deletedAt === 0);
  if (dice < 0.2) {
    world.deployment = withSpec(deployment, {
      image: pick(random() < 0.3 ? BAD_IMAGES : GOOD_IMAGES) ?? 'runtime:1',
    });
    world.trail.push(`${(cluster.now / 1000) % 100000}: image ${world.deployment.spec.image}`);
  } else if (dice < 0.35) {
    world.deployment = withSpec(deployment, { replicas: Math.floor(random() * 4) });
    world.trail.push(`${(cluster.now / 1000) % 100000}: replicas ${world.deployment.spec.replicas}`);
  } else if (dice < 0.5) {
    const pod = pick(pods.filter(({ startedAt, exit }) => startedAt > 0 && exit === undefined));
    if (pod === undefined) return;
    cluster.excuse(pod.group);
    pod.exit = { code: 1, at: cluster.now };
    world.trail.push(`${(cluster.now / 1000) % 100000}: crash ${pod.object.metadata?.name}`);
  } else if (dice < 0.6) {
    const pod = pick(pods);
    if (pod === undefined) return;
    cluster.excuse(pod.group);
    pod.deletedAt = cluster.now;
    world.trail.push(`${(cluster.now / 1000) % 100000}: user deletes ${pod.object.metadata?.name}`);
  } else if (dice < 0.8) {
    const [name, node] = pick(nodes) ?? [];
    if (node === undefined) return;
    node.ready = !node.ready;
    for (const pod of pods) if (pod.node === name) cluster.excuse(pod.group);
    world.trail.push(`${(cluster.now / 1000) % 100000}: ${name} ready ${node.ready}`);
  } else {
    const [name, node] = pick(nodes) ?? [];
    if (node === undefined) return;
    node.schedulable = !node.schedulable;
    world.trail.push(`${(cluster.now / 1000) % 100000}: ${name} schedulable ${node.schedulable}`);
  }
}

function calm(world: World): void {
  for (const node of world.cluster.nodes.values()) Object.assign(node, { ready: true, schedulable: true });
  if (BAD_IMAGES.includes(world.deployment.spec.image ?? ''))
    world.deployment = withSpec(world.deployment, { image: 'runtime:2' });
  world.trail.push(
    `${(world.cluster.now / 1000) % 100000}: calm, image ${world.deployment.spec.image}, replicas ${world.deployment.spec.replicas}`,
  );
}

/** Steps until the plan is empty and stays so; false when that never happens. */
function settle(world: World, minutes: number): boolean {
  for (let still = 0, step = 0; step < (minutes * 60_000) / STEP_MS; step++) {
    world.cluster.tick(STEP_MS);
    const planned = reconcile(world);
    still =
      isEmpty(planned) && world.cluster.readyGroups().length === world.deployment.spec.replicas
        ? still + 1
        : 0;
    checkCount(world, world.deployment.spec.replicas + 1);
    if (still > 20) return true;
  }
  return false;
}

function isEmpty({ create, remove, drain, gates, failures, prune, requeueAfterMs }: Plan): boolean {
  const writes = create.length + remove.length + drain.length + gates.length + prune.length;
  return writes === 0 && failures === undefined && (requeueAfterMs ?? Infinity) > 60_000;
}

function verdict(world: World): string {
  return [
    ...world.cluster.violations,
    ...(world.cluster.violations.length > 0 ? world.trail.slice(-60) : []),
  ].join('\n');
}

describe('plan over time', () => {
  it.each(Array.from({ length: 8 }, (_, part) => part))(
    'keeps every promise in worlds that go wrong at random (part %i)',
    (part) => {
      for (let seed = part; seed < SEEDS; seed += 8) {
        const strategy = ['Auto', 'Surge', 'Recreate'][seed % 3] ?? 'Auto';
        const size = [1, 2, 4][Math.floor(seed / 3) % 3] ?? 1;
        const spec = {
          replicas: 1 + (seed % 3),
          tensorParallel: { size },
          rollout: { strategy, drainTimeout: '20s', progressDeadline: '90s', maxGroupRestarts: 2 },
        };
        const tight = seed % 2 === 0 && strategy !== 'Surge';
        const world = aWorld(seed, spec, tight ? [size, size, size] : [4 * size, 4 * size]);
        let most = world.deployment.spec.replicas;
        for (let step = 0; step < 160; step++) {
          world.cluster.tick(STEP_MS);
          if (world.random() < 0.06) disturb(world);
          most = Math.max(world.deployment.spec.replicas, most - (step % 40 === 0 ? 1 : 0));
          const cut = world.random() < 0.1 ? Math.floor(world.random() * 4) : Number.POSITIVE_INFINITY;
          if (world.random() < 0.8) reconcile(world, world.random() < 0.2, cut);
          if (world.cluster.violations.length > 0) break;
        }
        expect(verdict(world), `seed ${seed}`).toBe('');
        calm(world);
        const settled = settle(world, 20);
        if (!settled)
          world.cluster.violations.push(`never settles: ${JSON.stringify(reconcile(world).rollout)}`);
        expect(verdict(world), `seed ${seed}`).toBe('');
        const current = reconcile(world).revision;
        const revisions = new Set(reconcile(world).groups.map(({ revision }) => revision));
        expect([...revisions], `seed ${seed}`).toEqual(world.deployment.spec.replicas === 0 ? [] : [current]);
      }
    },
    60_000,
  );
});
