// The operator process on a real API server; kwok plays the kubelets, the tests play the routers.
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { ANNOTATIONS, LABELS } from '../../operator/api.ts';
import { routerName } from '../../operator/names.ts';
import { controlPlane, type ControlPlane } from '../support/control-plane.ts';
import {
  eventually,
  managed,
  read,
  reportReady,
  startOperator,
  type OperatorProcess,
} from '../support/operator-process.ts';

let plane: ControlPlane;
const running: OperatorProcess[] = [];

beforeAll(async () => {
  plane = await controlPlane();
});

afterEach(async () => {
  await Promise.all(running.splice(0).map((operator) => operator.stop()));
});

async function operator(
  namespace: string,
  identity = 'operator-a',
  flags: readonly string[] = [],
): Promise<OperatorProcess> {
  const process = await startOperator(plane, namespace, identity, flags);
  running.push(process);
  return process;
}

async function kubectl(namespace: string, args: readonly string[], stdin?: string): Promise<string> {
  const { code, stdout, stderr } = await plane.kubectl(['-n', namespace, ...args], stdin);
  if (code !== 0) throw new Error(`kubectl ${args.join(' ')}: ${stderr}`);
  return stdout;
}

function manifest(name: string, spec: Record<string, unknown> = {}): string {
  return JSON.stringify({
    apiVersion: 'internvl.dev/v1alpha1',
    kind: 'InternVLDeployment',
    metadata: { name },
    spec: { model: { source: 'file:///srv/demo' }, replicas: 2, tensorParallel: { size: 2 }, ...spec },
  });
}

const apply = (namespace: string, name = 'demo', spec: Record<string, unknown> = {}) =>
  kubectl(namespace, ['apply', '-f', '-'], manifest(name, spec));

async function condition(namespace: string, type: string, name = 'demo') {
  const { status } = await read(plane, namespace, `internvldeployment/${name}`);
  const found = status?.conditions?.find((condition) => condition.type === type);
  if (found === undefined) throw new Error(`${name} has no condition ${type}`);
  return found;
}

/** Applies a deployment and waits until it is Ready. */
async function serving(namespace: string, name = 'demo', spec: Record<string, unknown> = {}): Promise<void> {
  await apply(namespace, name, spec);
  await eventually(async () => {
    await reportReady(plane, namespace, name);
    const { status, reason, message } = await condition(namespace, 'Ready', name);
    if (status !== 'True') throw new Error(`Ready is ${status} ${reason}: ${message}`);
  }, 90_000);
}

/** Requests that this process made to change something, leases and events left out. */
async function writes(process: OperatorProcess): Promise<string[]> {
  return (await process.metrics())
    .split('\n')
    .filter((line) => line.startsWith('rest_client_requests_total'))
    .filter((line) => /method="(CREATE|APPLY|PATCH|UPDATE|DELETE)"/.test(line))
    .filter((line) => !/resource="(leases|events)"/.test(line));
}

const versions = async (namespace: string) =>
  Object.fromEntries(
    (await managed(plane, namespace)).map(({ kind, metadata }) => [
      `${kind} ${metadata.name}`,
      metadata.resourceVersion,
    ]),
  );
const ranks = async (namespace: string) =>
  (await managed(plane, namespace)).filter(
    ({ kind, metadata }) => kind === 'Pod' && metadata.labels?.[LABELS.component] === 'runtime',
  );

describe('a deployment', () => {
  it('gets all its children and is Ready; the next operator finds nothing to write', async () => {
    const namespace = await plane.namespace();
    const first = await operator(namespace);
    await serving(namespace);
    expect(await ranks(namespace)).toHaveLength(4);
    await first.stop();
    const before = await versions(namespace);
    const second = await operator(namespace, 'operator-b');
    await second.said('reconciling');
    await eventually(async () =>
      expect(await second.metrics()).toMatch(
        /controller_runtime_reconcile_total\{[^}]*result="(success|requeue_after)"\} [1-9]/,
      ),
    );
    expect(await writes(second)).toEqual([]);
    expect(await versions(namespace)).toEqual(before);
  });

  it('has in its status what its replicas measured of their interconnect, and keeps it', async () => {
    const namespace = await plane.namespace();
    await operator(namespace);
    await serving(namespace);
    const interconnect = {
      backend: 'cpu' as const,
      path: 'TCP',
      direct: false,
      busGigabytesPerSecond: 2.13,
      reducedBytes: 1 << 20,
      latencyMicroseconds: 11.2,
      failedGates: [{ gate: 'SameHost', message: 'found; change' }],
    };
    const told = async () => {
      expect((await condition(namespace, 'InterconnectVerified')).message).toContain('TCP, 2.13 GB/s');
      const { status } = await read(plane, namespace, 'internvldeployment/demo');
      const { groups = [] } = status as { groups?: { interconnect?: object }[] };
      expect(groups.map((group) => group.interconnect)).toEqual(
        Array.from({ length: 2 }, () => ({ ...interconnect, pod: expect.any(String) })),
      );
    };
    await reportReady(plane, namespace, 'demo', { interconnect });
    await eventually(told);
    await reportReady(plane, namespace, 'demo', { message: 'a router that was started anew' });
    await apply(namespace, 'demo', { router: { replicas: 2 } });
    await eventually(async () => {
      const seen = await read(plane, namespace, 'internvldeployment/demo');
      const { status, metadata } = seen as {
        status?: { observedGeneration?: number };
        metadata: { generation?: number };
      };
      expect(status?.observedGeneration).toBe(metadata.generation);
    });
    await told();
  });

  it('leaves nothing when it is deleted', async () => {
    const namespace = await plane.namespace();
    await operator(namespace);
    await serving(namespace);
    await kubectl(namespace, ['delete', 'internvldeployment', 'demo']);
    await eventually(async () => expect(await managed(plane, namespace)).toEqual([]), 60_000);
  });

  it('has its children restored when somebody deletes or edits them', async () => {
    const namespace = await plane.namespace();
    await operator(namespace);
    await serving(namespace);
    const router = routerName('demo');
    await kubectl(namespace, ['delete', 'service', router]);
    await kubectl(namespace, ['delete', 'configmap', '--all']);
    await kubectl(namespace, [
      'patch',
      'deployment',
      router,
      '--type',
      'merge',
      '-p',
      '{"spec":{"replicas":3}}',
    ]);
    await kubectl(namespace, [
      'patch',
      'role',
      router,
      '--type',
      'merge',
      '-p',
      '{"rules":[{"apiGroups":[""],"resources":["secrets"],"verbs":["get"]}]}',
    ]);
    const rules = await read(plane, namespace, `role/${router}`);
    await eventually(async () => {
      await read(plane, namespace, `service/${router}`);
      const deployment = (await read(plane, namespace, `deployment/${router}`)) as unknown as {
        spec: { replicas: number };
      };
      expect(deployment.spec.replicas).toBe(1);
      const role = await read(plane, namespace, `role/${router}`);
      expect(JSON.stringify(role)).not.toContain('secrets');
    });
    expect(rules).toBeDefined();
    await eventually(async () => {
      await reportReady(plane, namespace, 'demo');
      expect(await condition(namespace, 'Ready')).toMatchObject({ status: 'True' });
    });
  });

  it('takes away from its children what it no longer wants, and nothing that others added', async () => {
    const namespace = await plane.namespace();
    await operator(namespace);
    const router = routerName('demo');
    const container = async () => {
      const { spec } = (await read(plane, namespace, `deployment/${router}`)) as unknown as {
        spec: { template: { spec: { containers: { resources: object }[] } } };
      };
      return spec.template.spec.containers[0];
    };
    await apply(namespace, 'demo', { replicas: 0, router: { resources: { limits: { memory: '1Gi' } } } });
    await eventually(async () =>
      expect(await container()).toMatchObject({ resources: { limits: { memory: '1Gi' } } }),
    );
    await kubectl(namespace, ['label', 'deployment', router, 'team=vision']);
    for (const limits of [{ cpu: '2' }, { memory: '2Gi' }]) {
      await apply(namespace, 'demo', { replicas: 0, router: { resources: { limits } } });
      await eventually(async () => expect((await container())?.resources).toMatchObject({ limits }));
      expect((await container())?.resources).toEqual({ limits });
    }
    const { metadata } = await read(plane, namespace, `deployment/${router}`);
    expect(metadata.labels).toMatchObject({ team: 'vision' });
  });

  it('is started as a group when somebody deletes one rank', async () => {
    const namespace = await plane.namespace();
    await operator(namespace);
    await serving(namespace);
    const before = await ranks(namespace);
    const [victim] = before;
    const group = victim?.metadata.labels?.[LABELS.group] ?? '';
    await kubectl(namespace, ['delete', 'pod', victim?.metadata.name ?? '', '--wait=false']);
    await eventually(async () => {
      await reportReady(plane, namespace, 'demo');
      expect(await condition(namespace, 'Ready')).toMatchObject({ status: 'True' });
      const after = await ranks(namespace);
      const kept = after.filter(({ metadata }) => before.some((pod) => pod.metadata.uid === metadata.uid));
      expect(kept.map(({ metadata }) => metadata.labels?.[LABELS.group]).includes(group)).toBe(false);
      expect(after).toHaveLength(4);
    }, 60_000);
  });

  it('with a name of 63 and of 253 characters works', async () => {
    const namespace = await plane.namespace();
    await operator(namespace);
    await serving(namespace, 'n'.repeat(63), { replicas: 1 });
    await serving(namespace, `${'m'.repeat(62)}.${'o'.repeat(190)}`, { replicas: 1 });
  });

  it('is left alone while it is paused, and says so', async () => {
    const namespace = await plane.namespace();
    await operator(namespace);
    await serving(namespace);
    await kubectl(namespace, ['annotate', 'internvldeployment', 'demo', `${ANNOTATIONS.paused}=true`]);
    await eventually(async () =>
      expect(await condition(namespace, 'Progressing')).toMatchObject({ reason: 'Paused' }),
    );
    await kubectl(namespace, ['scale', 'internvldeployment', 'demo', '--replicas=1']);
    await kubectl(namespace, ['delete', 'service', routerName('demo')]);
    await apply(namespace, 'other', { replicas: 0 });
    await eventually(async () => read(plane, namespace, `deployment/${routerName('other')}`));
    expect(await ranks(namespace)).toHaveLength(4);
    await expect(read(plane, namespace, `service/${routerName('demo')}`)).rejects.toThrow('not found');
    await kubectl(namespace, ['annotate', 'internvldeployment', 'demo', `${ANNOTATIONS.paused}-`]);
    await eventually(async () => read(plane, namespace, `service/${routerName('demo')}`));
  });
});

describe('what stands in the way', () => {
  it('is a foreign object of the same name: it is named and not touched', async () => {
    const namespace = await plane.namespace();
    await kubectl(namespace, ['create', 'service', 'clusterip', routerName('demo'), '--tcp=80']);
    const before = (await read(plane, namespace, `service/${routerName('demo')}`)).metadata.resourceVersion;
    await operator(namespace);
    await apply(namespace);
    await eventually(async () =>
      expect(await condition(namespace, 'Degraded')).toMatchObject({
        status: 'True',
        reason: 'NameCollision',
      }),
    );
    expect((await condition(namespace, 'Degraded')).message).toContain(
      `Service ${namespace}/${routerName('demo')}`,
    );
    expect((await read(plane, namespace, `service/${routerName('demo')}`)).metadata.resourceVersion).toBe(
      before,
    );
  });

  it('is a quota: the status says which, and the rest goes on once it is raised', async () => {
    const namespace = await plane.namespace();
    await kubectl(namespace, ['create', 'quota', 'few', '--hard=pods=2']);
    await eventually(async () =>
      expect(JSON.stringify(await read(plane, namespace, 'resourcequota/few'))).toContain('"used"'),
    );
    await operator(namespace);
    await apply(namespace);
    await eventually(async () =>
      expect(JSON.stringify((await read(plane, namespace, 'internvldeployment/demo')).status)).toContain(
        'exceeded quota: few',
      ),
    );
    await kubectl(namespace, ['delete', 'quota', 'few']);
    await eventually(async () => {
      await reportReady(plane, namespace, 'demo');
      expect(await condition(namespace, 'Ready')).toMatchObject({ status: 'True' });
    }, 90_000);
  });

  it('is the end of the namespace: nothing is complained of', async () => {
    const namespace = await plane.namespace();
    const process = await operator(namespace, 'operator-a', [
      '--lease-namespace',
      'default',
      '--lease-name',
      `lease-${namespace}`,
    ]);
    await serving(namespace);
    const { code } = await plane.kubectl(['delete', 'namespace', namespace, '--timeout=60s']);
    expect(code).toBe(0);
    expect(process.logs.filter(({ level }) => level === 'error' || level === 'warn')).toEqual([]);
  });
});

describe('two operators', () => {
  // Only here: where the usual Lease stands, a machine that is held up for some seconds costs no operator its lead.
  const lease = ['--lease-duration-ms', '4000', '--renew-deadline-ms', '3000', '--retry-period-ms', '500'];

  it('act one at a time, and the second takes over when the first is killed', async () => {
    const namespace = await plane.namespace();
    const first = await operator(namespace, 'operator-a', lease);
    await first.said('reconciling');
    const second = await operator(namespace, 'operator-b', lease);
    await second.said(/^waiting for lease/);
    await serving(namespace);
    expect(await writes(second)).toEqual([]);
    first.kill('SIGKILL');
    await second.said('reconciling');
    await kubectl(namespace, ['delete', 'service', routerName('demo')]);
    await eventually(async () => read(plane, namespace, `service/${routerName('demo')}`));
    expect(await writes(second)).not.toEqual([]);
  });

  it('stay one when the first is stopped for a while: it writes nothing any more and ends', async () => {
    const namespace = await plane.namespace();
    const first = await operator(namespace, 'operator-a', lease);
    await first.said('reconciling');
    const second = await operator(namespace, 'operator-b', lease);
    await serving(namespace);
    first.kill('SIGSTOP');
    await second.said('reconciling');
    await kubectl(namespace, ['delete', 'service', routerName('demo')]);
    await eventually(async () => read(plane, namespace, `service/${routerName('demo')}`));
    const before = first.logs.filter(({ message }) => message === 'created').length;
    first.kill('SIGCONT');
    expect(await first.ended).toBe(3);
    expect(first.logs.filter(({ message }) => message === 'created')).toHaveLength(before);
  });
});
