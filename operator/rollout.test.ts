import { describe, expect, it } from 'vitest';
import { withSpec } from '../test/support/simulated-cluster.ts';
import {
  aWorld,
  isEmpty,
  reconcile,
  settle,
  STEP_MS,
  verdict,
  type World,
} from '../test/support/simulated-world.ts';
import { LABELS } from './api.ts';

const ROLLOUT = { strategy: 'Auto', drainTimeout: '20s', progressDeadline: '90s', maxGroupRestarts: 2 };
const ROOMY = [8, 8];
const spec = (more: Record<string, unknown> = {}) => ({
  replicas: 2,
  tensorParallel: { size: 2 },
  image: 'runtime:1',
  ...more,
  rollout: { ...ROLLOUT, ...(more['rollout'] as object | undefined) },
});

function serving(more: Record<string, unknown> = {}, nodes = ROOMY): World {
  const world = aWorld(1, spec(more), nodes);
  if (!settle(world, 5)) throw new Error(`not settled: ${world.trail.join('\n')}`);
  world.trail = [];
  return world;
}

/** Runs for some seconds; `each` is asked after every step. */
function run(world: World, seconds: number, each: () => void = () => {}): void {
  for (let step = 0; step < (seconds * 1000) / STEP_MS; step++) {
    world.cluster.tick(STEP_MS);
    reconcile(world);
    each();
  }
  expect(verdict(world)).toBe('');
}

const edit = (world: World, change: Parameters<typeof withSpec>[1]): void => {
  world.deployment = withSpec(world.deployment, change);
};
const ready = (world: World): number => world.cluster.readyGroups().length;
const uids = (world: World): string[] => [...world.cluster.pods.values()].map(({ uid }) => uid).toSorted();
const unplannedRestarts = (before: readonly string[], world: World): string[] =>
  before.filter((uid) => !uids(world).includes(uid));
const images = (world: World): string[] => [
  ...new Set([...world.cluster.pods.values()].map(({ image }) => image)),
];

describe('a rollout', () => {
  it('makes all groups at once the first time, with no surge', () => {
    const world = aWorld(1, spec(), ROOMY);
    expect(reconcile(world).create.map(({ index }) => index)).toEqual([0, 1]);
  });

  it.each(['Auto', 'Surge'])('never has fewer than R serving where there is room (%s)', (strategy) => {
    const world = serving({ replicas: 3, rollout: { strategy } });
    edit(world, { image: 'runtime:2' });
    run(world, 120, () => expect(ready(world)).toBeGreaterThanOrEqual(3));
    expect(images(world)).toEqual(['runtime:2']);
    expect(settle(world, 1)).toBe(true);
  });

  it.each([
    ['Recreate', ROOMY],
    ['Auto', [2, 2]],
  ])('takes one down at a time with %s on nodes of %j devices', (strategy, nodes) => {
    const world = serving({ rollout: { strategy } }, nodes);
    edit(world, { image: 'runtime:2' });
    run(world, 240, () => expect(ready(world)).toBeGreaterThanOrEqual(1));
    expect(images(world)).toEqual(['runtime:2']);
    expect(settle(world, 1)).toBe(true);
  });

  it('waits and says so when strategy Surge finds no place', () => {
    const world = serving({ rollout: { strategy: 'Surge', progressDeadline: '30m' } }, [2, 2]);
    edit(world, { image: 'runtime:2' });
    run(world, 120, () => expect(ready(world)).toBe(2));
    expect(reconcile(world).rollout).toMatchObject({ phase: 'RollingOut', mode: 'surge' });
    expect(reconcile(world).rollout.waitingFor).toContain('Unschedulable');
  });

  it('goes on by recreating when the API server refuses one group more', () => {
    const world = serving();
    world.cluster.quota = 4;
    edit(world, { image: 'runtime:2' });
    run(world, 240, () => expect(ready(world)).toBeGreaterThanOrEqual(1));
    expect(images(world)).toEqual(['runtime:2']);
    expect(settle(world, 1)).toBe(true);
  });

  it('decides anew for each group: surges again once there is room', () => {
    const world = serving({ replicas: 3 }, [2, 2, 2]);
    edit(world, { image: 'runtime:2' });
    run(world, 34);
    expect(reconcile(world).rollout.mode).toBe('recreate');
    world.cluster.nodes.set('node-9', { devices: 8, ready: true, schedulable: true });
    run(world, 60);
    run(world, 60, () => expect(ready(world)).toBeGreaterThanOrEqual(3));
    expect(images(world)).toEqual(['runtime:2']);
  });

  it.each(['missing:1', 'crash:1', 'config:1', 'hang:1'])(
    'leaves the old groups alone when %s fails',
    (image) => {
      const world = serving();
      const before = uids(world);
      edit(world, { image });
      run(world, 240, () => expect(ready(world)).toBe(2));
      expect(unplannedRestarts(before, world)).toEqual([]);
      expect(reconcile(world).rollout.phase).toBe('Failed');
    },
  );

  it.each([
    ['missing:1', 'ImagePullBackOff'],
    ['crash:1', 'RestartBudgetExhausted'],
    ['config:1', 'CannotStart'],
    ['hang:1', 'ProgressDeadlineExceeded'],
  ])('names why %s failed: %s', (image, reason) => {
    const world = serving();
    edit(world, { image });
    run(world, 240);
    expect(reconcile(world).rollout.failed?.reason).toBe(reason);
  });

  it.each(['missing:1', 'crash:1', 'config:1', 'hang:1'])(
    'restores an old group that dies while %s has failed',
    (image) => {
      const world = serving();
      edit(world, { image });
      run(world, 150);
      const [group = ''] = world.cluster.readyGroups();
      world.cluster.excuse(group);
      for (const pod of world.cluster.pods.values())
        if (pod.group === group) pod.exit = { code: 1, at: world.cluster.now };
      run(world, 120);
      expect(ready(world)).toBe(2);
      expect(
        world.cluster.readyGroups().every((name) => name.includes(reconcile(world).rollout.target)),
      ).toBe(true);
    },
  );

  it('restores the old revision even when all its groups are gone', () => {
    const world = serving();
    edit(world, { image: 'missing:1' });
    run(world, 30);
    for (const group of world.cluster.readyGroups()) world.cluster.excuse(group);
    for (const pod of world.cluster.pods.values()) pod.deletedAt = world.cluster.now;
    run(world, 90);
    expect(ready(world)).toBe(2);
    expect(world.cluster.readyGroups().every((name) => !name.includes(reconcile(world).revision))).toBe(true);
  });

  it('brings the old one back when it had to go first and the new one fails (one replica, one place)', () => {
    const world = serving({ replicas: 1 }, [2]);
    edit(world, { image: 'missing:1' });
    run(world, 180);
    expect(ready(world)).toBe(1);
  });

  it('goes back without touching groups that never changed', () => {
    const world = serving({ replicas: 3 });
    const before = uids(world);
    edit(world, { image: 'runtime:2' });
    run(world, 20);
    const untouched = before.filter((uid) => uids(world).includes(uid));
    edit(world, { image: 'runtime:1' });
    run(world, 90, () => expect(ready(world)).toBeGreaterThanOrEqual(2));
    expect(unplannedRestarts(untouched, world)).toEqual([]);
    expect(images(world)).toEqual(['runtime:1']);
    expect(settle(world, 1)).toBe(true);
  });

  it('goes straight to the newest of two quick edits', () => {
    const world = serving();
    edit(world, { image: 'runtime:2' });
    run(world, 3);
    edit(world, { image: 'runtime:3' });
    run(world, 120, () => expect(ready(world)).toBeGreaterThanOrEqual(2));
    expect(images(world)).toEqual(['runtime:3']);
  });

  it('scales in the middle of it', () => {
    const world = serving();
    edit(world, { image: 'runtime:2' });
    run(world, 5);
    edit(world, { replicas: 4 });
    run(world, 120, () => expect(ready(world)).toBeGreaterThanOrEqual(2));
    expect(ready(world)).toBe(4);
    expect(images(world)).toEqual(['runtime:2']);
  });
});

describe('scaling', () => {
  it.each([
    [1, 3],
    [3, 1],
    [2, 0],
    [0, 2],
  ])('goes from %i to %i and restarts none that stays', (from, to) => {
    const world = serving({ replicas: from });
    const before = uids(world);
    edit(world, { replicas: to });
    run(world, 60);
    expect(ready(world)).toBe(to);
    expect(unplannedRestarts(before, world)).toHaveLength(Math.max(0, from - to) * 2);
    expect(settle(world, 1)).toBe(true);
  });

  it('takes a drain back when the group is wanted again, and loses none (2 -> 1 -> 2)', () => {
    const world = serving();
    world.cluster.longestRequestMs = 19_000;
    const before = uids(world);
    edit(world, { replicas: 1 });
    run(world, 1);
    expect([...world.cluster.pods.values()].filter(({ drain }) => drain !== undefined)).toHaveLength(1);
    edit(world, { replicas: 2 });
    run(world, 30);
    expect(uids(world)).toEqual(before);
    expect(ready(world)).toBe(2);
  });

  it('deletes at the deadline what does not end its requests', () => {
    const world = serving();
    world.cluster.longestRequestMs = 1e9;
    run(world, 5);
    edit(world, { replicas: 1 });
    run(world, 18);
    expect(world.cluster.groups().size).toBe(2);
    run(world, 8);
    expect(world.cluster.groups().size).toBe(1);
  });
});

describe('a cordoned node', () => {
  it('is left one group at a time, with a replacement first', () => {
    const world = serving({ replicas: 2 }, [4, 8]);
    Object.assign(world.cluster.nodes.get('node-0') ?? {}, { schedulable: false });
    run(world, 120, () => expect(ready(world)).toBeGreaterThanOrEqual(2));
    expect([...world.cluster.pods.values()].map(({ node }) => node)).toEqual(Array(4).fill('node-1'));
  });

  it('takes down one group at most when there is no other', () => {
    const world = serving();
    for (const node of world.cluster.nodes.values()) node.schedulable = false;
    run(world, 240, () => expect(ready(world)).toBeGreaterThanOrEqual(1));
    for (const node of world.cluster.nodes.values()) node.schedulable = true;
    expect(settle(world, 2)).toBe(true);
  });
});

describe('a lost node', () => {
  it('has its groups replaced at once under other indexes, and is welcome back', () => {
    const world = serving({ replicas: 2 }, [4, 8]);
    for (const group of world.cluster.readyGroups()) world.cluster.excuse(group);
    Object.assign(world.cluster.nodes.get('node-0') ?? {}, { ready: false });
    run(world, 30);
    expect(ready(world)).toBe(2);
    const old = [...world.cluster.pods.values()].filter(({ node }) => node === 'node-0');
    expect(old.every(({ deletedAt }) => deletedAt > 0)).toBe(true);
    expect(
      new Set([...world.cluster.pods.values()].map(({ object }) => object.metadata?.labels?.[LABELS.group]))
        .size,
    ).toBe(4);
    Object.assign(world.cluster.nodes.get('node-0') ?? {}, { ready: true });
    expect(settle(world, 1)).toBe(true);
    expect(world.cluster.groups().size).toBe(2);
  });
});

describe('at rest', () => {
  it.each([0, 1, 3])('with %i replicas there is nothing to write and no timer', (replicas) => {
    const world = serving({ replicas });
    const planned = reconcile(world);
    expect(isEmpty(planned)).toBe(true);
    expect(planned.requeueAfterMs).toBeUndefined();
  });
});
