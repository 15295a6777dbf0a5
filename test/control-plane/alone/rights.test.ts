// The rights that operator/rules.ts lists and those that the operator hands to routers: they suffice, and give nothing more.
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { KubeConfig, type V1Pod } from '@kubernetes/client-node';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { ApiClient } from '../../../operator/kube/api-client.ts';
import { CONFIG_MAPS, PODS } from '../../../operator/kube/resources.ts';
import { CLUSTER_RULES, leaseRules, NAMESPACED_RULES, type PolicyRule } from '../../../operator/rules.ts';
import { controlPlane, type ControlPlane } from '../../support/control-plane.ts';
import { kubeconfig } from '../../support/fault-proxy.ts';
import { eventually, managed, type OperatorProcess } from '../../support/operator-process.ts';
import { TestNamespace } from '../../support/test-namespace.ts';

const ACCOUNT = 'the-operator';
const RBAC = 'rbac.authorization.k8s.io';

let plane: ControlPlane;
let world: TestNamespace;
let directory: string;

beforeAll(async () => {
  plane = await controlPlane();
  directory = await mkdtemp(join(tmpdir(), 'internvl-rights-'));
});
afterAll(async () => {
  await rm(directory, { recursive: true });
});
beforeEach(async () => {
  world = await TestNamespace.make(plane);
  await world.kubectl(['create', 'serviceaccount', ACCOUNT]);
});
afterEach(async () => {
  await world.close();
  await plane.kubectl(['delete', 'clusterrole,clusterrolebinding', world.name, '--ignore-not-found']);
});

/** A kubeconfig of a ServiceAccount of the test's namespace. */
async function kubeconfigOf(account: string): Promise<string> {
  const token = (await world.kubectl(['create', 'token', account])).trim();
  const admin = new KubeConfig();
  admin.loadFromFile(plane.kubeconfig);
  const { server = '', caData, caFile } = admin.getCurrentCluster() ?? {};
  const authority =
    caData === undefined ? { 'certificate-authority': caFile } : { 'certificate-authority-data': caData };
  const file = join(directory, `${world.name}-${account}`);
  await writeFile(file, kubeconfig(server, authority, { token }));
  return file;
}

/** Rules and who has them, in a Role of `namespace` or, without one, in a ClusterRole. */
async function bind(
  name: string,
  namespace: string | undefined,
  rules: readonly PolicyRule[],
): Promise<void> {
  const [kind, metadata] =
    namespace === undefined ? ['ClusterRole', { name }] : ['Role', { name, namespace }];
  const subjects = [{ kind: 'ServiceAccount', name: ACCOUNT, namespace: world.name }];
  const apiVersion = `${RBAC}/v1`;
  const objects = [
    { apiVersion, kind, metadata, rules },
    { apiVersion, kind: `${kind}Binding`, metadata, roleRef: { apiGroup: RBAC, kind, name }, subjects },
  ];
  await world.kubectl(['apply', '-f', '-'], objects.map((object) => JSON.stringify(object)).join('\n'));
}

/** Creates, rolls, scales, fails, prunes and deletes: every kind of request that the operator makes. */
async function exercise(): Promise<void> {
  const claimed = { name: 'claimed', spec: { replicas: 1, device: { deviceClassName: 'gpu.example.com' } } };
  world.routers();
  await world.apply({ router: { replicas: 2 } });
  await world.apply(claimed.spec, claimed.name);
  await world.settled();
  expect(new Set((await managed(plane, world.name)).map(({ kind }) => kind)).size).toBe(9);
  await eventually(async () => {
    expect(await world.kubectl(['get', 'resourceclaims', '-o', 'name'])).toMatch(/claimed-\w{8}-0/);
  });
  for (const maxSequences of [3, 4, 5, 6]) {
    await world.patch({ spec: { engine: { maxSequences } } });
    await world.settled();
  }
  await world.patch({ spec: { replicas: 1, router: { replicas: 1 } } });
  await world.patch({ spec: { replicas: 0 } }, claimed.name);
  await world.settled();
  await eventually(async () =>
    expect(await world.kubectl(['get', 'resourceclaims', '-o', 'name'])).not.toContain('claimed-'),
  );
  const [rank] = await world.ranks();
  if (rank === undefined) throw new Error('there is no rank');
  await world.endRank(rank, 1, 'a reason');
  await eventually(async () => expect((await world.status()).lastFailure).toMatchObject({ exitCode: 1 }));
  await world.settled();
}

async function expectNoRefusal(operator: OperatorProcess): Promise<void> {
  expect(await world.refusedTo(ACCOUNT)).toEqual([]);
  const own = operator.logs.map((line) => JSON.stringify(line)).filter((line) => line.includes(world.name));
  expect(own.filter((line) => /forbidden|\b403\b/i.test(line))).toEqual([]);
  // Otherwise the above would say nothing.
  expect((await world.audited()).length).toBeGreaterThan(50);
}

describe('the rights of the operator', () => {
  it('suffice for the whole cluster', async () => {
    await bind(world.name, undefined, [...CLUSTER_RULES, ...NAMESPACED_RULES]);
    await bind('lease', world.name, leaseRules('internvl-operator'));
    const operator = await world.operator({ kubeconfig: await kubeconfigOf(ACCOUNT), all: true });
    await exercise();
    await expectNoRefusal(operator);
  });

  it('suffice for one namespace, by a Role in it', async () => {
    await bind(world.name, undefined, CLUSTER_RULES);
    await bind('operator', world.name, NAMESPACED_RULES);
    await bind('lease', world.name, leaseRules('internvl-operator'));
    const operator = await world.operator({ kubeconfig: await kubeconfigOf(ACCOUNT) });
    await exercise();
    await expectNoRefusal(operator);
  });
});

describe('the rights of routers and ranks', () => {
  it('are to see pods and to write the one report, and nothing else', async () => {
    await world.operator();
    world.routers();
    await world.apply();
    await world.settled();
    const router = `system:serviceaccount:${world.name}:demo-router`;
    const ranks = `system:serviceaccount:${world.name}:demo-ranks`;
    const may = async (who: string, verb: string, what: string, namespace = world.name) => {
      const { stdout } = await plane.kubectl(['-n', namespace, 'auth', 'can-i', verb, what, `--as=${who}`]);
      return stdout.trim();
    };
    const allowed = [
      'get pods',
      'list pods',
      'watch pods',
      'get configmaps/demo-routers',
      'patch configmaps/demo-routers',
    ];
    const refused = [
      'create pods',
      'delete pods',
      'patch pods',
      'update pods',
      'patch pods --subresource=status',
      'get pods --subresource=log',
      'create pods --subresource=exec',
      'create pods --subresource=eviction',
      'list configmaps',
      'watch configmaps',
      'create configmaps',
      'get configmaps/demo-failures',
      'patch configmaps/demo-failures',
      'update configmaps/demo-routers',
      'delete configmaps/demo-routers',
      'get secrets',
      'list secrets',
      'get nodes',
      'list internvldeployments',
      'patch internvldeployments',
      'patch roles',
      'create rolebindings',
      'get leases',
      'create events',
      'get serviceaccounts',
      'create serviceaccounts --subresource=token',
    ];
    const asked = (who: string, words: readonly string[], namespace?: string) =>
      Promise.all(
        words.map(async (words) => {
          const [verb = '', what = '', ...flags] = words.split(' ');
          const { stdout } = await plane.kubectl([
            '-n',
            namespace ?? world.name,
            'auth',
            'can-i',
            verb,
            what,
            ...flags,
            `--as=${who}`,
          ]);
          return `${words}: ${stdout.trim()}`;
        }),
      );
    expect(await may(router, 'get', 'pods')).toBe('yes');
    expect(await asked(router, allowed)).toEqual(allowed.map((words) => `${words}: yes`));
    expect(await asked(router, refused)).toEqual(refused.map((words) => `${words}: no`));
    expect(await asked(router, ['list pods', 'patch configmaps'], 'default')).toEqual([
      'list pods: no',
      'patch configmaps: no',
    ]);
    expect(await asked(ranks, [...allowed, ...refused])).toEqual(
      [...allowed, ...refused].map((words) => `${words}: no`),
    );
  });

  it('suffice for what a router does: watch pods, and apply its own key of the report', async () => {
    const operator = await world.operator();
    await world.apply();
    await eventually(async () => expect(await world.ranks()).toHaveLength(4));
    await eventually(async () => world.kubectl(['get', 'configmap', 'demo-routers']));
    await operator.stop();
    const config = new KubeConfig();
    config.loadFromFile(await kubeconfigOf('demo-router'));
    const client = ApiClient.fromKubeConfig(config, { userAgent: 'router' });
    const labelSelector = 'internvl.dev/deployment=demo';
    const page = await client.list<V1Pod>(PODS, { namespace: world.name, labelSelector });
    expect(page.items.length).toBeGreaterThanOrEqual(4);
    const stop = new AbortController();
    const events = client.watch<V1Pod>(PODS, {
      namespace: world.name,
      labelSelector,
      resourceVersion: '0',
      timeoutSeconds: 60,
      signal: stop.signal,
    });
    expect(await events.next()).toMatchObject({ value: { type: 'ADDED' } });
    stop.abort();
    const report = (router: string, text: string) =>
      client.apply(
        CONFIG_MAPS,
        {
          apiVersion: 'v1',
          kind: 'ConfigMap',
          metadata: { name: 'demo-routers', namespace: world.name },
          data: { [router]: text },
        },
        { fieldManager: router, force: true },
      );
    // Two routers do not undo each other, and the operator drops what no router of that name says.
    await Promise.all([report('one', '{}'), report('two', '{}')]);
    const after = await client.get<{ data?: object }>(CONFIG_MAPS, `${world.name}/demo-routers`);
    expect(after.data).toEqual({ one: '{}', two: '{}' });
    await world.operator({ identity: 'operator-b' });
    await eventually(async () => {
      const { data } = await client.get<{ data?: object }>(CONFIG_MAPS, `${world.name}/demo-routers`);
      expect(Object.keys(data ?? {})).not.toEqual(expect.arrayContaining(['one', 'two']));
    });
    client.close();
  });
});
