// plan() drives a small simulated cluster in which everything goes wrong that can: what must hold is asked after every step, and once the world stops
// changing everything wanted must be there and nothing left to do. Every seed is a world of its own; a failure names it.
import { describe, expect, it } from 'vitest';
import { BAD_IMAGES, GOOD_IMAGES, withSpec } from '../test/support/simulated-cluster.ts';
import {
  aWorld,
  checkCount,
  reconcile,
  settle,
  STEP_MS,
  verdict,
  type World,
} from '../test/support/simulated-world.ts';

const SEEDS = 208;

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
  const { remembered } = reconcile(world);
  // A group whose budget is used up stays down until the spec changes.
  const isDown = [...remembered.values()].some(({ retryAt }) => retryAt === undefined);
  if (isDown) world.deployment = withSpec(world.deployment, { image: 'runtime:9' });
  if (BAD_IMAGES.includes(world.deployment.spec.image ?? ''))
    world.deployment = withSpec(world.deployment, { image: 'runtime:2' });
  world.trail.push(
    `${(world.cluster.now / 1000) % 100000}: calm, image ${world.deployment.spec.image}, replicas ${world.deployment.spec.replicas}`,
  );
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
        const wanted = [world.deployment.spec.replicas];
        for (let step = 0; step < 160; step++) {
          world.cluster.tick(STEP_MS);
          if (world.random() < 0.06) disturb(world);
          wanted.push(world.deployment.spec.replicas);
          checkCount(world, Math.max(...wanted.slice(-120)) + 1);
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
