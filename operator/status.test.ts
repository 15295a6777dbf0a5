import { describe, expect, it } from 'vitest';
import type { InternVLDeployment } from '../gen/crd/internvl-deployment.ts';
import { PLAN_CONFIG } from '../test/support/deployment.ts';
import { withSpec } from '../test/support/simulated-cluster.ts';
import { aWorld, reconcile, settle, type World } from '../test/support/simulated-world.ts';
import { events } from './events.ts';
import type { ChildObject, Observed } from './observed.ts';
import { plan } from './plan.ts';
import { status, type DeploymentStatus } from './status.ts';

const ROUTER: ChildObject = { apiVersion: 'apps/v1', kind: 'Deployment', metadata: { name: 'demo-router' } };

function told(world: World, errors: readonly Error[] = []): DeploymentStatus {
  const observed = world.cluster.observed({ children: [ROUTER] });
  const { now } = world.cluster;
  const planned = plan(world.deployment, observed, PLAN_CONFIG, now);
  return status(world.deployment, observed, planned, errors, now) as unknown as DeploymentStatus;
}
const conditions = (world: World, errors: readonly Error[] = []) =>
  Object.fromEntries(
    told(world, errors).conditions.map(({ type, status: value, reason }) => [type, `${value}/${reason}`]),
  );
const message = (world: World, type: string, errors: readonly Error[] = []) =>
  told(world, errors).conditions.find((condition) => condition.type === type)?.message;

const world = (more: Record<string, unknown> = {}, nodes = [8, 8]): World =>
  aWorld(1, { replicas: 2, tensorParallel: { size: 2 }, image: 'runtime:1', ...more }, nodes);
function run(w: World, seconds: number): World {
  for (let step = 0; step < seconds * 2; step++) {
    w.cluster.tick(500);
    reconcile(w);
  }
  return w;
}
function serving(more: Record<string, unknown> = {}): World {
  const w = world(more);
  expect(settle(w, 5)).toBe(true);
  return w;
}

describe('the status', () => {
  it('says of one that serves that all is well', () => {
    expect(conditions(serving())).toEqual({
      Ready: 'True/AllReplicasReady',
      Available: 'True/ReplicasReady',
      Progressing: 'True/Complete',
      ModelLoaded: 'True/Loaded',
      RouterReady: 'True/RouterReady',
      InterconnectVerified: 'True/NotApplicable',
      Degraded: 'False/AsExpected',
    });
    expect(told(serving())).toMatchObject({
      replicas: 2,
      readyReplicas: 2,
      updatedReplicas: 2,
      ready: '2/2',
      phase: 'Serving',
      endpoint: 'demo-router.vision.svc:50051',
    });
  });

  it('keeps what a group measured of its interconnect while that group lives, whatever routers do', () => {
    const w = serving({ device: { deviceClassName: 'gpu' } });
    const interconnect = {
      backend: 'cuda' as const,
      path: 'P2P/CUMEM',
      direct: true,
      busGigabytesPerSecond: 156,
      reducedBytes: 1 << 20,
      latencyMicroseconds: 21,
      failedGates: [],
    };
    const seen = (reports: Partial<Observed>): DeploymentStatus => {
      const observed = w.cluster.observed({ children: [ROUTER], ...reports });
      const planned = plan(w.deployment, observed, PLAN_CONFIG, w.cluster.now);
      return status(w.deployment, observed, planned, [], w.cluster.now) as unknown as DeploymentStatus;
    };
    const condition = ({ conditions: all }: DeploymentStatus): string | undefined =>
      all.find(({ type }) => type === 'InterconnectVerified')?.reason;
    expect(condition(seen({}))).toBe('NotMeasured');
    const reports = w.cluster.observed({}).reports.map((report) => ({
      ...report,
      replicas: Object.fromEntries(
        Object.entries(report.replicas).map(([name, replica]) => [name, { ...replica, interconnect }]),
      ),
    }));
    const measured = seen({ reports });
    expect(condition(measured)).toBe('Measured');
    expect(measured.groups[0]).toMatchObject({
      interconnect: { path: 'P2P/CUMEM', pod: expect.any(String) },
    });
    w.deployment = { ...w.deployment, status: measured as never };
    expect(seen({ reports: [] })).toEqual(measured);
  });

  it('selects one pod a replica, for scalers', () => {
    const w = serving();
    const wanted = told(w)
      .selector.split(',')
      .map((term) => term.split('='));
    const matching = w.cluster
      .podObjects()
      .filter(({ metadata }) => wanted.every(([key = '', value]) => metadata?.labels?.[key] === value));
    expect(matching).toHaveLength(2);
  });

  it.each([
    [
      'starting',
      () => run(world(), 3),
      'Ready',
      'False/ReplicasNotReady',
      /^0 of 2 replicas are ready: replica demo-[0-9a-f]{8}-0 weights/,
    ],
    [
      'unschedulable',
      () => run(world({}, [1]), 3),
      'Ready',
      'False/ReplicasNotReady',
      /rank 1: Unschedulable: 0\/2 nodes are available$/,
    ],
    [
      'an image that is missing',
      () => run(world({ image: 'missing:1' }), 3),
      'Progressing',
      'False/ImagePullBackOff',
      /rank 0: ImagePullBackOff/,
    ],
    [
      'bad flags',
      () => run(world({ image: 'config:1' }), 10),
      'Degraded',
      'True/CannotStart',
      /exit code 2: rank 0 says why$/,
    ],
    [
      'a rank that crashes',
      () => run(world({ image: 'crash:1' }), 60),
      'Degraded',
      'True/RestartBudgetExhausted',
      /3 failures in a row/,
    ],
    [
      'zero replicas',
      () => run(world({ replicas: 0 }), 3),
      'Available',
      'False/ScaledToZero',
      /replicas is 0/,
    ],
    [
      'a source of another kind',
      () => run(world({ model: { source: 'hf://a/b' } }), 3),
      'ModelLoaded',
      'False/SourceNotSupported',
      /hf:\/\/a\/b/,
    ],
  ] as const)('names what is wrong with %s', (_, make, type, verdict, why) => {
    const w = make();
    expect(conditions(w)[type]).toBe(verdict);
    expect(message(w, type)).toMatch(why);
  });

  it('serves on and says why the new revision failed', () => {
    const w = serving();
    w.deployment = withSpec(w.deployment, { image: 'missing:1' });
    run(w, 20);
    expect(conditions(w)).toMatchObject({
      Available: 'True/ReplicasReady',
      Progressing: 'False/ImagePullBackOff',
      Degraded: 'True/ImagePullBackOff',
    });
    expect(told(w).phase).toBe('RolloutFailed');
  });

  it('tells what the API server refused, and of a name that is taken', () => {
    const taken = Object.assign(new Error('Service vision/demo-router exists'), { code: 'name_collision' });
    expect(conditions(serving(), [taken])['Degraded']).toBe('True/NameCollision');
    expect(message(serving(), 'Degraded', [taken])).toBe('Service vision/demo-router exists');
    expect(conditions(serving(), [new Error('exceeded quota')])).toMatchObject({
      Progressing: 'False/WriteRefused',
      Degraded: 'True/WriteRefused',
    });
  });

  it('keeps lastTransitionTime while the status does not flip', () => {
    const w = serving();
    const first = told(w);
    w.deployment = { ...w.deployment, status: first as unknown as NonNullable<InternVLDeployment['status']> };
    w.cluster.now += 3_600_000;
    expect(told(w)).toEqual(first);
  });

  it('tells how long each phase of a cold start took', () => {
    const [group] = told(serving()).groups;
    expect(Object.keys(group?.coldStart ?? {})).toEqual([
      'schedulingSeconds',
      'startingSeconds',
      'loadingSeconds',
      'acknowledgingSeconds',
    ]);
    expect(group?.coldStart?.loadingSeconds).toBe(8);
  });

  it('keeps the evidence of the last failure, also when the group serves again', () => {
    const w = serving();
    const [pod] = w.cluster.pods.values();
    w.cluster.excuse(pod?.group ?? '');
    if (pod !== undefined) pod.exit = { code: 7, at: w.cluster.now };
    run(w, 30);
    expect(conditions(w)['Degraded']).toBe('False/AsExpected');
    expect(told(w).lastFailure).toMatchObject({
      group: pod?.group,
      rank: 0,
      exitCode: 7,
      lastLines: ['rank 0 says why'],
    });
  });

  it('lists 32 groups at most and says how many it left out', () => {
    const w = run(world({ replicas: 40 }, [100]), 3);
    expect(told(w).groups).toHaveLength(32);
    expect(told(w).groupsOmitted).toBe(8);
  });
});

describe('events', () => {
  const asStatus = (value: DeploymentStatus | undefined) => value as unknown as InternVLDeployment['status'];
  const reasons = (before: DeploymentStatus | undefined, after: DeploymentStatus) =>
    events(asStatus(before), asStatus(after)).map(({ type, reason }) => `${type}/${reason}`);

  it('are none when nothing has changed', () => {
    const after = told(serving());
    expect(reasons(after, after)).toEqual([]);
  });

  it('tell when it becomes ready, and which replicas', () => {
    expect(reasons(told(run(world(), 3)), told(serving()))).toEqual([
      'Normal/Ready',
      'Normal/Complete',
      'Normal/ReplicaReady',
      'Normal/ReplicaReady',
    ]);
  });

  it('warn of a rollout that failed', () => {
    const w = serving();
    const before = told(w);
    w.deployment = withSpec(w.deployment, { image: 'missing:1' });
    expect(reasons(before, told(run(w, 20)))).toContain('Warning/ImagePullBackOff');
  });
});
