import { describe, expect, it } from 'vitest';
import type { V1ConfigMap } from '@kubernetes/client-node';
import { aDeployment, PLAN_CONFIG } from '../test/support/deployment.ts';
import { plain, SimulatedCluster, withSpec } from '../test/support/simulated-cluster.ts';
import { aWorld, reconcile, settle } from '../test/support/simulated-world.ts';
import { ANNOTATIONS, LABELS } from './api.ts';
import { NOTHING_OBSERVED, type ChildObject, type Observed } from './observed.ts';
import { plan, type Plan } from './plan.ts';

const fresh = (spec: Record<string, unknown> = {}): Plan =>
  plan(aDeployment(spec), NOTHING_OBSERVED, PLAN_CONFIG, 0);
const names = ({ create }: Plan): (string | undefined)[] =>
  create.flatMap(({ pods }) => pods.map(({ metadata }) => metadata?.name));
const removed = ({ remove }: Plan): (string | undefined)[] => remove.map(({ pod }) => pod.metadata?.name);

/** Two ready groups of two ranks. */
function serving() {
  const world = aWorld(1, { replicas: 2, tensorParallel: { size: 2 } }, [8, 8]);
  expect(settle(world, 5)).toBe(true);
  const { cluster, deployment } = world;
  const decide = (parts: Partial<Observed> = {}, config = PLAN_CONFIG): Plan =>
    plan(deployment, cluster.observed(parts), config, cluster.now);
  return { world, cluster, deployment, decide, revision: decide().revision };
}

describe('the plan for a new deployment', () => {
  it('makes one pod a rank, named by deployment, revision, index and rank', () => {
    const planned = fresh({ replicas: 2, tensorParallel: { size: 2 } });
    expect(planned.revision).toMatch(/^[0-9a-f]{8}$/);
    expect(names(planned)).toEqual(
      [0, 1].flatMap((r) => [0, 1].map((k) => `demo-${planned.revision}-${r}-${k}`)),
    );
    expect(planned.create.map(({ address }) => address)).toEqual(
      [0, 1].map((r) => `demo-${planned.revision}-${r}-0.demo-ranks.vision.svc:50051`),
    );
  });

  it('makes one pod a group for topology SinglePod', () => {
    const planned = fresh({ replicas: 2, tensorParallel: { size: 2, topology: 'SinglePod' } });
    expect(names(planned)).toEqual([0, 1].map((r) => `demo-${planned.revision}-${r}`));
  });

  it('applies the revision before everything else, and the router', () => {
    const { apply, revision } = fresh();
    expect(apply[0]).toMatchObject({ kind: 'ConfigMap', metadata: { name: `demo-${revision}` } });
    expect(apply.map(({ kind }) => kind)).toContain('Deployment');
  });

  it('has no rank at zero replicas, and the router all the same', () => {
    const planned = fresh({ replicas: 0 });
    expect(planned.create).toEqual([]);
    expect(planned.apply.map(({ kind }) => kind)).toContain('Deployment');
  });

  it.each(['hf://owner/name', 's3://bucket/x', 'oci://image'])(
    'says of %s that it cannot be loaded, and makes no rank',
    (source) => {
      const planned = fresh({ model: { source } });
      expect(planned.create).toEqual([]);
      expect(planned.rollout.blocked?.reason).toBe('SourceNotSupported');
      expect(planned.apply.map(({ kind }) => kind)).toContain('Deployment');
    },
  );

  it('makes no rank where the interconnect is required and cannot be had', () => {
    const spec = {
      tensorParallel: { size: 2, interconnect: 'Required' },
      device: { resourceName: 'nvidia.com/gpu' },
    };
    expect(fresh(spec).create).toEqual([]);
    expect(fresh(spec).rollout.blocked?.reason).toBe('RanksIsolatedByDevicePlugin');
  });

  it('makes a claim for a group that shares its devices', () => {
    const planned = fresh({ tensorParallel: { size: 2 }, device: { deviceClassName: 'gpu.nvidia.com' } });
    expect(planned.create[0]?.claim).toMatchObject({
      kind: 'ResourceClaim',
      metadata: { name: planned.create[0]?.name },
    });
  });

  it('is the same for the same input', () => {
    expect(fresh({ replicas: 3 })).toEqual(fresh({ replicas: 3 }));
  });
});

describe('the plan for one that serves', () => {
  it('is empty when nothing has changed', () => {
    const { decide } = serving();
    expect(decide()).toMatchObject({
      create: [],
      remove: [],
      drain: [],
      gates: [],
      prune: [],
      failures: undefined,
    });
    expect(decide().requeueAfterMs).toBeUndefined();
  });

  it('touches no pod when the operator comes with other default images', () => {
    const { decide } = serving();
    const upgraded = { ...PLAN_CONFIG, runtimeImage: 'runtime:next', routerImage: 'router:next' };
    expect(decide({}, upgraded)).toMatchObject({ create: [], remove: [], drain: [] });
  });

  it('makes a restored group from its own revision, not from the defaults of today', () => {
    const { cluster, deployment } = serving();
    const config = { ...PLAN_CONFIG, runtimeImage: 'runtime:next' };
    cluster.pods.clear();
    const planned = plan(deployment, cluster.observed(), config, cluster.now);
    expect(planned.create.map(({ pods }) => pods[0]?.spec?.containers[0]?.image)).toEqual([
      'runtime:1',
      'runtime:1',
    ]);
  });

  it('never applies a revision again that is written', () => {
    const { decide } = serving();
    expect(decide().apply.some(({ metadata }) => metadata.labels?.[LABELS.revision] !== undefined)).toBe(
      false,
    );
  });

  it.each([
    ['replicas', { replicas: 2 }],
    [
      'rollout',
      { rollout: { strategy: 'Recreate', drainTimeout: '5s', progressDeadline: '1m', maxGroupRestarts: 1 } },
    ],
  ] as const)('touches no pod for a change of %s', (_, change) => {
    const { cluster, deployment } = serving();
    const planned = plan(withSpec(deployment, change), cluster.observed(), PLAN_CONFIG, cluster.now);
    expect(planned).toMatchObject({ create: [], remove: [], drain: [] });
  });

  it('removes a whole group when one rank ends, and writes why before', () => {
    const { cluster, decide, revision } = serving();
    const pod = cluster.pods.get(`demo-${revision}-1-1`);
    if (pod !== undefined) pod.exit = { code: 1, at: cluster.now };
    const planned = decide();
    expect(removed(planned)).toEqual([`demo-${revision}-1-0`, `demo-${revision}-1-1`]);
    const data = planned.failures?.['data'] as Record<string, string>;
    expect(JSON.parse(data[`demo-${revision}-1`] ?? '{}')).toMatchObject({
      failures: 1,
      rank: 1,
      exitCode: 1,
    });
    expect(planned.create).toEqual([]);
  });

  it('counts a failure once, however often it is seen', () => {
    const { cluster, decide, revision } = serving();
    const pod = cluster.pods.get(`demo-${revision}-1-1`);
    if (pod !== undefined) pod.exit = { code: 1, at: cluster.now };
    const first = decide();
    const written = first.failures as unknown as V1ConfigMap;
    expect(decide({ failures: written }).failures).toBeUndefined();
    expect(removed(decide({ failures: written }))).toEqual(removed(first));
  });

  it('keeps the pods of a rank that lost its peer until the peer has told of its end, and no longer than seconds', () => {
    const { cluster, decide, revision } = serving();
    const group = `demo-${revision}-1`;
    const end = (rank: number, code: number) => {
      const pod = cluster.pods.get(`${group}-${rank}`);
      if (pod !== undefined) pod.exit = { code, at: cluster.now };
    };
    const remembered = ({ failures }: Plan) =>
      JSON.parse((failures?.['data'] as Record<string, string> | undefined)?.[group] ?? '{}') as unknown;
    end(0, 3);
    const first = decide();
    expect(removed(first)).toEqual([]);
    expect(first.requeueAfterMs).toBeLessThanOrEqual(3_000);
    expect(first.groups.find(({ name }) => name === group)).toMatchObject({ phase: 'Failed', ready: false });
    expect(remembered(first)).toMatchObject({ failures: 1, rank: 0, exitCode: 3 });
    const failures = first.failures as unknown as V1ConfigMap;
    // Killed by the kernel, not by us: nobody has deleted it.
    end(1, 137);
    const second = decide({ failures });
    expect(removed(second)).toEqual([`${group}-0`, `${group}-1`]);
    expect(remembered(second)).toMatchObject({ failures: 1, rank: 1, exitCode: 137 });
  });

  it('gives a group up when the lost peer says nothing', () => {
    const { cluster, decide, revision } = serving();
    const pod = cluster.pods.get(`demo-${revision}-1-0`);
    if (pod !== undefined) pod.exit = { code: 3, at: cluster.now };
    const { failures, requeueAfterMs = 0 } = decide();
    cluster.now += requeueAfterMs;
    expect(removed(decide({ failures: failures as unknown as V1ConfigMap }))).toEqual([
      `demo-${revision}-1-0`,
      `demo-${revision}-1-1`,
    ]);
  });

  it('waits until the pods of a failed group are gone before it makes them again', () => {
    const { cluster, decide, revision, world } = serving();
    const group = `demo-${revision}-1`;
    cluster.excuse(group);
    for (const pod of cluster.pods.values()) if (pod.group === group) pod.exit = { code: 1, at: cluster.now };
    reconcile(world);
    cluster.now += 3_600_000;
    expect(decide().create).toEqual([]);
    cluster.tick(1_500);
    expect(decide().create.map(({ name }) => name)).toEqual([group]);
  });

  it('removes the rest of a group of which a user deleted one pod, and completes one that was never finished', () => {
    const { cluster, decide, revision } = serving();
    cluster.pods.delete(`demo-${revision}-0-1`);
    expect(removed(decide())).toEqual([`demo-${revision}-0-0`]);
    const half = new SimulatedCluster(() => 0, [8]);
    const deployment = aDeployment({ tensorParallel: { size: 2 } });
    half.carryOut(plan(deployment, half.observed(), PLAN_CONFIG, half.now), () => half.pods.size === 0);
    const next = plan(deployment, half.observed(), PLAN_CONFIG, half.now);
    expect(names(next)).toEqual([`demo-${next.revision}-0-1`]);
    expect(next.remove).toEqual([]);
  });

  it('says that a drain begins on rank 0 alone, and takes it back', () => {
    const { cluster, deployment, world, revision } = serving();
    world.deployment = withSpec(deployment, { replicas: 1 });
    const planned = plan(world.deployment, cluster.observed(), PLAN_CONFIG, cluster.now);
    expect(planned.drain).toMatchObject([
      { pod: { metadata: { name: `demo-${revision}-1-0` } }, since: cluster.iso },
    ]);
    expect(planned.remove).toEqual([]);
    cluster.carryOut(planned, () => true);
    expect(
      cluster.podObjects().filter(({ metadata }) => metadata?.annotations?.[ANNOTATIONS.drain]),
    ).toHaveLength(1);
    expect(plan(deployment, cluster.observed(), PLAN_CONFIG, cluster.now).drain).toMatchObject([
      { since: undefined },
    ]);
  });

  it('prunes old revisions but for the last two, reports of routers that are gone and needless budgets', () => {
    const { decide, revision } = serving();
    const old = ['a', 'b', 'c'].map((letter, age) => oldRevision(letter.repeat(8), age));
    const current = decide().prune;
    const child = (kind: string, name: string, data?: Record<string, string>): ChildObject => ({
      apiVersion: 'v1',
      kind,
      metadata: { name, uid: `u-${name}` },
      ...(data && { data }),
    });
    const reports = child('ConfigMap', 'demo-routers', { 'router-a': '{}', 'router-gone': '{}' });
    const { prune, staleReports } = decide({
      revisions: [...old, ...revisionsOf(decide, revision)],
      children: [
        reports,
        child('PodDisruptionBudget', 'demo-router-gone'),
        child('ResourceClaim', 'demo-gone-0'),
      ],
    });
    expect(current).toEqual([]);
    expect(prune.map(({ metadata }) => metadata.name)).toEqual([
      'demo-aaaaaaaa',
      'demo-router-gone',
      'demo-gone-0',
    ]);
    expect(staleReports).toEqual(['router-gone']);
  });
});

/** A revision's ConfigMap, the younger the greater `age`. */
function oldRevision(revision: string, age: number): V1ConfigMap {
  const [configMap] = fresh().apply as unknown as V1ConfigMap[];
  return {
    ...plain(configMap),
    metadata: {
      name: `demo-${revision}`,
      labels: { [LABELS.revision]: revision },
      creationTimestamp: new Date(age * 1000).toISOString() as unknown as Date,
    },
  };
}

function revisionsOf(decide: (parts?: Partial<Observed>) => Plan, revision: string): V1ConfigMap[] {
  const { apply } = decide({ revisions: [] });
  return apply.filter(
    ({ metadata }) => metadata.labels?.[LABELS.revision] === revision,
  ) as unknown as V1ConfigMap[];
}
