// Rollouts, scaling and moves on a real API server with a real scheduler; kwok plays the kubelets, simulated routers answer for every group.
import { describe, expect, it } from 'vitest';
import { ANNOTATIONS } from '../../operator/api.ts';
import { namespaceForEachTest } from '../support/each-test.ts';
import { eventually } from '../support/operator-process.ts';
import type { TestNamespace } from '../support/test-namespace.ts';

let world: TestNamespace;
namespaceForEachTest((made) => (world = made));

const PLACEMENT = ['--placement-timeout-ms', '3000'];
const engine = (maxSequences: number) => ({ spec: { engine: { maxSequences } } });

describe('a new revision', () => {
  it('is put beside the old one where devices are free, and no replica is missed', async () => {
    await world.nodes(2, 4);
    await world.operator({ flags: PLACEMENT });
    const routers = world.routers();
    await world.apply(world.onGpus({ replicas: 3 }));
    await world.settled();
    const before = await world.uids();
    await routers.recount();
    await world.patch(engine(7));
    await world.settled();
    expect(routers.fewestServing).toBe(3);
    expect(routers.mostGroups).toBe(4);
    const after = await world.uids();
    expect(after).toHaveLength(6);
    expect(after.filter((uid) => before.includes(uid))).toEqual([]);
  });

  it('takes the place of the old one group by group where no device is free, and ends', async () => {
    await world.nodes(2, 2);
    await world.operator({ flags: PLACEMENT });
    const routers = world.routers();
    await world.apply(world.onGpus());
    await world.settled();
    const before = await world.uids();
    await routers.recount();
    await world.patch(engine(7));
    await world.settled();
    expect(routers.fewestServing).toBe(1);
    expect((await world.uids()).filter((uid) => before.includes(uid))).toEqual([]);
  });

  it('takes the place of the only group when there is one', async () => {
    await world.nodes(1, 2);
    await world.operator({ flags: PLACEMENT });
    world.routers();
    await world.apply(world.onGpus({ replicas: 1 }));
    await world.settled();
    await world.patch(engine(7));
    await world.settled();
    expect(await world.ranks()).toHaveLength(2);
  });

  it('never uses one group more with strategy Recreate', async () => {
    await world.nodes(2, 4);
    await world.operator({ flags: PLACEMENT });
    const routers = world.routers();
    await world.apply(world.onGpus({ replicas: 3, rollout: { strategy: 'Recreate' } }));
    await world.settled();
    await routers.recount();
    await world.patch(engine(7));
    await world.settled();
    expect(routers.fewestServing).toBe(2);
    expect(routers.mostGroups).toBe(3);
  });

  it('waits for room with strategy Surge and says what is lacking', async () => {
    await world.nodes(1, 4);
    await world.operator({ flags: PLACEMENT });
    const routers = world.routers();
    await world.apply(world.onGpus({ rollout: { strategy: 'Surge' } }));
    await world.settled();
    await routers.recount();
    await world.patch(engine(7));
    await world.says('Progressing', /True RollingOut: .*rank \d: .*Insufficient nvidia\.com\/gpu/);
    // Beyond the time after which others would give up.
    await new Promise((resolve) => setTimeout(resolve, 5000));
    expect(routers.fewestServing).toBe(2);
    await world.nodes(1, 4);
    await world.settled();
    expect(routers.fewestServing).toBe(2);
  });

  it('that cannot start leaves the old one alone, says why, and going back restarts nothing', async () => {
    await world.nodes(2, 4);
    await world.operator({ flags: PLACEMENT });
    const routers = world.routers();
    await world.apply(world.onGpus());
    await world.settled();
    const before = await world.uids();
    const oldGroups = new Set((await world.groups()).keys());
    // kwok may be faster than the failing pulls.
    routers.refuses = (group) => !oldGroups.has(group);
    await routers.recount();
    const stop = new AbortController();
    const pulling = failPulls(stop.signal, before);
    await world.patch({ spec: { image: 'registry.invalid/no-such:1' } });
    await world.says(
      'Progressing',
      /False ImagePullBackOff: replica demo-\w{8}-0 rank \d: .*registry\.invalid\/no-such:1/,
    );
    expect(await world.condition('Degraded')).toMatch(/^True ImagePullBackOff/);
    expect(await world.condition('Available')).toMatch(/^True/);
    expect((await world.status()).phase).toBe('RolloutFailed');
    expect((await world.uids()).filter((uid) => before.includes(uid))).toEqual(before);
    await world.patch({ spec: { image: null } });
    await world.settled();
    stop.abort();
    await pulling;
    expect(await world.uids()).toEqual(before);
    expect(routers.fewestServing).toBe(2);
  });

  it('that is taken back midway leaves the groups that were not replaced as they are', async () => {
    await world.nodes(2, 4);
    await world.operator({ flags: PLACEMENT });
    const routers = world.routers();
    await world.apply(world.onGpus({ replicas: 3 }));
    await world.settled();
    const before = await world.uids();
    const oldGroups = [...(await world.groups()).keys()];
    // The second new group does not get ready, so the rollout stands when one has been replaced.
    routers.refuses = (group) => !oldGroups.includes(group) && group.endsWith('-1');
    await world.patch(engine(7));
    await eventually(async () => {
      const names = [...(await world.groups()).keys()];
      expect(names.filter((name) => oldGroups.includes(name))).toHaveLength(2);
      expect(names.some((name) => !oldGroups.includes(name) && name.endsWith('-1'))).toBe(true);
    }, 60_000);
    const kept = (await world.uids()).filter((uid) => before.includes(uid));
    expect(kept).toHaveLength(4);
    await world.patch({ spec: { engine: null } });
    await world.settled();
    const after = await world.uids();
    expect(after).toHaveLength(6);
    expect(kept.filter((uid) => !after.includes(uid))).toEqual([]);
  });
});

/** As kubelets that cannot pull: every rank pod but `spared` waits in ImagePullBackOff. */
async function failPulls(signal: AbortSignal, spared: readonly string[]): Promise<void> {
  while (!signal.aborted) {
    for (const pod of await world.ranks()) {
      const [container] = pod.spec?.containers ?? [];
      const { uid = '', deletionTimestamp } = pod.metadata ?? {};
      if (
        spared.includes(uid) ||
        deletionTimestamp !== undefined ||
        container?.image === 'localhost/runtime:1'
      )
        continue;
      if (pod.status?.containerStatuses?.[0]?.state?.waiting !== undefined) continue;
      const message = `Back-off pulling image "${container?.image}"`;
      const waiting = { reason: 'ImagePullBackOff', message };
      const status = { name: container?.name, image: container?.image, imageID: '', ready: false };
      await world
        .podStatus(pod, {
          phase: 'Pending',
          conditions: [
            { type: 'ContainersReady', status: 'False' },
            { type: 'Ready', status: 'False' },
          ],
          containerStatuses: [{ ...status, restartCount: 0, state: { waiting, running: null } }],
        })
        .catch(() => undefined);
    }
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

describe('a change that concerns no pod', () => {
  it('restarts nothing: replicas, metadata, router and rollout settings, other images of the operator', async () => {
    await world.nodes(2, 4);
    const first = await world.operator({ flags: PLACEMENT });
    world.routers();
    await world.apply(world.onGpus());
    await world.settled();
    const before = await world.uids();
    await world.patch({ metadata: { labels: { team: 'vision' }, annotations: { note: 'x' } } });
    await world.patch({ spec: { rollout: { drainTimeout: '25s' }, router: { queue: { maxRequests: 50 } } } });
    await world.patch({ spec: { replicas: 3 } });
    await world.settled();
    const grown = await world.uids();
    expect(grown.filter((uid) => before.includes(uid))).toEqual(before);
    await first.stop();
    const versions = (pods: Awaited<ReturnType<typeof world.ranks>>) =>
      pods.map(({ metadata }) => `${metadata?.uid} ${metadata?.resourceVersion}`).toSorted();
    const at = versions(await world.ranks());
    const other = ['--runtime-image', 'localhost/runtime:2', '--router-image', 'localhost/router:2'];
    const second = await world.operator({ identity: 'operator-b', flags: [...PLACEMENT, ...other] });
    await second.said('reconciling');
    await eventually(async () => {
      const deployment = await world.kubectl([
        'get',
        'deployment',
        'demo-router',
        '-o',
        'jsonpath={..image}',
      ]);
      expect(deployment).toBe('localhost/router:2');
    });
    await world.settled();
    expect(versions(await world.ranks())).toEqual(at);
  });
});

describe('scaling', () => {
  it('goes up and down by kubectl scale, and to 0 and back', async () => {
    await world.operator();
    world.routers();
    await world.apply();
    await world.settled();
    const scale = (count: number) =>
      world.kubectl(['scale', 'internvldeployment', 'demo', `--replicas=${count}`]);
    await scale(3);
    await world.settled();
    expect(await world.ranks()).toHaveLength(6);
    await scale(0);
    await world.settled();
    await eventually(async () => expect(await world.ranks()).toEqual([]));
    expect(await world.condition('Ready')).toMatch(/^False ScaledToZero/);
    await scale(1);
    await world.settled();
    expect(await world.ranks()).toHaveLength(2);
  });

  it('takes a group back that still finishes its requests', async () => {
    await world.operator();
    const routers = world.routers();
    await world.apply();
    await world.settled();
    const before = await world.uids();
    routers.holdDrains = true;
    await world.patch({ spec: { replicas: 1 } });
    const draining = async () =>
      (await world.ranks()).filter((pod) => pod.metadata?.annotations?.[ANNOTATIONS.drain] !== undefined);
    await eventually(async () => expect(await draining()).toHaveLength(1));
    await world.says('Progressing', /True ScalingDown: replica .* finishes its requests/);
    await world.patch({ spec: { replicas: 2 } });
    await eventually(async () => expect(await draining()).toEqual([]));
    await world.settled();
    expect(await world.uids()).toEqual(before);
  });

  it('deletes a group whose requests do not end only when the drain timeout has passed', async () => {
    await world.operator();
    const routers = world.routers();
    routers.holdDrains = true;
    await world.apply({ rollout: { drainTimeout: '6s' } });
    await world.settled();
    await world.patch({ spec: { replicas: 1 } });
    const since = await eventually(async () => {
      const [pod] = (await world.ranks()).filter(
        ({ metadata }) => metadata?.annotations?.[ANNOTATIONS.drain] !== undefined,
      );
      expect(pod).toBeDefined();
      return Date.parse(pod?.metadata?.annotations?.[ANNOTATIONS.drain] ?? '');
    });
    await eventually(async () => expect(await world.ranks()).toHaveLength(2));
    expect(Date.now() - since).toBeGreaterThanOrEqual(6000);
  });
});

describe('a cordoned node', () => {
  it('has its groups moved one at a time, and none is missed where there is room', async () => {
    const [first = ''] = await world.nodes(1, 4);
    await world.operator({ flags: PLACEMENT });
    const routers = world.routers();
    await world.apply(world.onGpus());
    await world.settled();
    const [second] = await world.nodes(1, 4);
    await routers.recount();
    await world.plane.kubectl(['cordon', first]);
    await eventually(async () => {
      const pods = await world.ranks();
      expect(pods).toHaveLength(4);
      expect(new Set(pods.map(({ spec }) => spec?.nodeName))).toEqual(new Set([second]));
    }, 60_000);
    await world.settled();
    expect(routers.fewestServing).toBe(2);
    expect(routers.mostGroups).toBe(3);
  });

  it('lets its groups go although there is no room elsewhere, so that it can be emptied', async () => {
    const [first = ''] = await world.nodes(1, 4);
    await world.operator({ flags: PLACEMENT });
    world.routers();
    await world.apply(world.onGpus({ replicas: 1 }));
    await world.settled();
    await world.plane.kubectl(['cordon', first]);
    await eventually(async () => {
      const pods = await world.ranks();
      expect(pods.filter(({ spec }) => spec?.nodeName === first)).toEqual([]);
      expect(pods.length).toBeGreaterThan(0);
    }, 60_000);
    await world.says('Ready', /False ReplicasNotReady: .*unschedulable/);
    await world.plane.kubectl(['uncordon', first]);
    await world.settled();
  });

  it('that is drained with kubectl gives up no part of a group by eviction', async () => {
    const [first = ''] = await world.nodes(1, 4);
    await world.operator({ flags: PLACEMENT });
    const routers = world.routers();
    await world.apply(world.onGpus());
    await world.settled();
    await world.nodes(1, 4);
    await routers.recount();
    const drained = await world.plane.kubectl(['drain', first, '--delete-emptydir-data', '--timeout=60s']);
    expect(drained.code, drained.stderr).toBe(0);
    await world.settled();
    expect(routers.fewestServing).toBe(2);
  });
});
