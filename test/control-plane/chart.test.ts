// What the chart renders to, by its values.

import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { parse } from 'yaml';
import { describe, expect, it } from 'vitest';
import { parseConfig } from '../../operator/config.ts';
import { CLUSTER_RULES, leaseRules, NAMESPACED_RULES, type PolicyRule } from '../../operator/rules.ts';
import { CHART } from '../support/chart-series.ts';
import { command } from '../support/control-plane.ts';
import { helm, render, toolPath, type Rendered } from '../support/helm.ts';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const ALL_ON = {
  metrics: {
    serviceMonitor: { enabled: true, labels: { release: 'prometheus' } },
    podMonitor: { enabled: true },
    prometheusRule: { enabled: true },
    dashboards: { enabled: true },
  },
};
const ALWAYS = [
  'ClusterRole operators-r-internvl-operator',
  'ClusterRoleBinding operators-r-internvl-operator',
  'Deployment r-internvl-operator',
];
const DEFAULTS = [
  ...ALWAYS,
  'CustomResourceDefinition internvldeployments.internvl.dev',
  'NetworkPolicy r-internvl-operator',
  'PodDisruptionBudget r-internvl-operator',
  'Role r-internvl-operator-lease',
  'RoleBinding r-internvl-operator-lease',
  'ServiceAccount r-internvl-operator',
];

/** Fields of Kubernetes' own, and switches of a section that says what it is for. */
const NEED_NO_WORDS = new Set(['enabled', 'cpu', 'memory']);

const names = (objects: readonly Rendered[]) =>
  objects.map(({ kind, metadata }) => `${kind} ${metadata.name}`).toSorted();
const only = (objects: readonly Rendered[], kind: string): Rendered => {
  const [found, another] = objects.filter((object) => object.kind === kind);
  if (found === undefined || another !== undefined) throw new Error(`not exactly one ${kind}`);
  return found;
};

interface Container {
  readonly image: string;
  readonly args: readonly string[];
  readonly ports: readonly { readonly name: string; readonly containerPort: number }[];
  readonly securityContext: unknown;
}
interface PodSpec {
  readonly containers: readonly [Container];
  readonly securityContext: unknown;
  readonly [field: string]: unknown;
}
const podOf = (objects: readonly Rendered[]): PodSpec =>
  (only(objects, 'Deployment') as unknown as { spec: { template: { spec: PodSpec } } }).spec.template.spec;
const argsOf = (objects: readonly Rendered[]): readonly string[] => podOf(objects).containers[0].args;
const rulesOf = (object: Rendered): unknown => object['rules'];

describe('the chart', () => {
  it('passes helm lint, with everything on too', async () => {
    for (const values of [{}, ALL_ON]) {
      const { code, stdout } = await helm(['lint', '--strict', CHART], { values });
      expect(stdout).toContain('0 chart(s) failed');
      expect(code).toBe(0);
    }
  });

  it.each<[what: string, values: object, objects: readonly string[]]>([
    ['defaults', {}, DEFAULTS],
    [
      'everything on',
      ALL_ON,
      [
        ...DEFAULTS,
        'ConfigMap r-internvl-operator-dashboards',
        'PodMonitor r-internvl-operator',
        'PrometheusRule r-internvl-operator',
        'Service r-internvl-operator-metrics',
        'ServiceMonitor r-internvl-operator',
      ],
    ],
    [
      'everything off',
      {
        replicas: 1,
        crds: { install: false },
        leaderElection: { enabled: false },
        networkPolicy: { operator: false },
        serviceAccount: { create: false, name: 'mine' },
      },
      ALWAYS,
    ],
    ['no rights', { rbac: { create: false } }, DEFAULTS.filter((name) => !/^(Cluster)?Role/.test(name))],
    ['one replica', { replicas: 1 }, DEFAULTS.filter((name) => !name.startsWith('PodDisruptionBudget'))],
    [
      'two namespaces',
      { watchNamespaces: ['a', 'b'] },
      [
        ...DEFAULTS,
        ...['Role', 'Role', 'RoleBinding', 'RoleBinding'].map(
          (kind) => `${kind} operators-r-internvl-operator`,
        ),
      ],
    ],
  ])('renders with %s', async (_what, values, objects) => {
    expect(names(await render(values))).toEqual(objects.toSorted());
  });

  it('passes flags that the operator takes, and means the same by them', async () => {
    const config = (values: object) =>
      render(values).then((objects) => parseConfig(argsOf(objects), { POD_NAMESPACE: 'elsewhere' }));
    expect(await config({})).toMatchObject({
      namespaces: [],
      concurrency: 16,
      leaderElection: { enabled: true, namespace: 'operators', name: 'r-internvl-operator' },
      plan: {
        runtimeImage: 'localhost/internvl-runtime:0.1.0',
        routerImage: 'localhost/internvl-operator:0.1.0',
        placementTimeoutMs: 30_000,
        nodeLostTimeoutMs: 10_000,
        networkPolicy: true,
      },
      metricsListen: '0.0.0.0:8080',
      healthListen: '0.0.0.0:8081',
    });
    expect(
      await config({
        watchNamespaces: ['a', 'b'],
        replicas: 1,
        leaderElection: { enabled: false },
        placementTimeoutSeconds: 7,
        networkPolicy: { deployments: false },
        logLevel: 'debug',
        registry: 'registry.example:5000/team/',
        images: {
          router: { repository: 'my-router', tag: 'x' },
          runtime: { repository: 'my-runtime', digest: `sha256:${'0'.repeat(64)}` },
        },
      }),
    ).toMatchObject({
      namespaces: ['a', 'b'],
      leaderElection: { enabled: false },
      plan: {
        runtimeImage: `registry.example:5000/team/my-runtime@sha256:${'0'.repeat(64)}`,
        routerImage: 'registry.example:5000/team/my-router:x',
        placementTimeoutMs: 7000,
        networkPolicy: false,
      },
      logLevel: 'debug',
    });
  });

  it('defaults as the operator itself does', async () => {
    const bare = [
      '--runtime-image=localhost/internvl-runtime:0.1.0',
      '--router-image=localhost/internvl-operator:0.1.0',
    ];
    const { leaderElection, ...config } = parseConfig(argsOf(await render()), {});
    const { leaderElection: own, ...expected } = parseConfig(bare, {});
    expect(config).toEqual(expected);
    expect({ ...leaderElection, name: '', namespace: '' }).toEqual({ ...own, name: '', namespace: '' });
  });

  it('runs the operator as PodSecurity restricted asks, with a read-only root', async () => {
    const { securityContext, containers } = podOf(await render());
    expect(securityContext).toMatchObject({
      runAsNonRoot: true,
      runAsUser: 65532,
      seccompProfile: { type: 'RuntimeDefault' },
    });
    expect(containers[0].securityContext).toEqual({
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ['ALL'] },
    });
  });

  it('carries the CRD of crds/, kept when the release goes', async () => {
    const crd = await readFile(`${ROOT}crds/internvldeployments.yaml`, 'utf8');
    // Out of step: cp crds/internvldeployments.yaml helm/internvl-operator/files/
    expect(await readFile(`${CHART}files/internvldeployments.yaml`, 'utf8')).toBe(crd);
    const { metadata, ...rendered } = only(await render(), 'CustomResourceDefinition');
    const { metadata: own, ...expected } = parse(crd) as Rendered;
    expect(rendered).toEqual(expected);
    expect(metadata).toEqual({ ...own, annotations: { 'helm.sh/resource-policy': 'keep' } });
  });

  it('is of the version of package.json', async () => {
    const { version } = JSON.parse(await readFile(`${ROOT}package.json`, 'utf8')) as { version: string };
    const chart = parse(await readFile(`${CHART}Chart.yaml`, 'utf8')) as Record<string, string>;
    expect([chart['version'], chart['appVersion']]).toEqual([version, version]);
  });

  it('explains every value with a comment', async () => {
    const lines = (await readFile(`${CHART}values.yaml`, 'utf8')).split('\n');
    const described = new Set<string>();
    const bare: string[] = [];
    for (const [index, line] of lines.entries()) {
      const key = /^( *)([A-Za-z]+):(.*)$/.exec(line);
      if (key === null) continue;
      const [, indent = '', name = '', value = ''] = key;
      const commented = lines[index - 1]?.trimStart().startsWith('#') === true;
      if (commented) described.add(name);
      // A section needs none, and a field that an earlier sibling of its name explained neither.
      else if (value.trim() !== '' && !described.has(name) && !NEED_NO_WORDS.has(name))
        bare.push(`${indent}${name}`);
    }
    expect(bare).toEqual([]);
  });
});

describe('rights', () => {
  const sorted = (rules: unknown): unknown =>
    (rules as readonly PolicyRule[])
      .map((rule) => JSON.stringify(rule, Object.keys(rule).toSorted()))
      .toSorted();

  it('are what the operator uses, cluster-wide', async () => {
    const objects = await render();
    expect(sorted(rulesOf(only(objects, 'ClusterRole')))).toEqual(
      sorted([...CLUSTER_RULES, ...NAMESPACED_RULES]),
    );
    expect(sorted(rulesOf(only(objects, 'Role')))).toEqual(sorted(leaseRules('r-internvl-operator')));
  });

  it('are given in the watched namespaces alone, where some are named', async () => {
    const objects = await render({ watchNamespaces: ['a', 'b'] });
    expect(sorted(rulesOf(only(objects, 'ClusterRole')))).toEqual(sorted(CLUSTER_RULES));
    const roles = objects.filter(
      ({ kind, metadata }) => kind === 'Role' && metadata.namespace !== 'operators',
    );
    expect(roles.map(({ metadata }) => metadata.namespace)).toEqual(['a', 'b']);
    for (const role of roles) expect(sorted(rulesOf(role))).toEqual(sorted(NAMESPACED_RULES));
  });

  it('go to the account of the operator, each binding to a role that is there', async () => {
    const objects = await render({ watchNamespaces: ['a', 'b'], serviceAccount: { name: 'mine' } });
    const bindings = objects.filter(({ kind }) => kind.endsWith('Binding'));
    expect(bindings).toHaveLength(4);
    for (const binding of bindings) {
      const { kind, name } = binding['roleRef'] as { kind: string; name: string };
      expect(
        objects.some(
          (object) =>
            object.kind === kind &&
            object.metadata.name === name &&
            object.metadata.namespace === binding.metadata.namespace,
        ),
      ).toBe(true);
      expect(binding['subjects']).toEqual([{ kind: 'ServiceAccount', name: 'mine', namespace: 'operators' }]);
    }
    expect(podOf(objects)['serviceAccountName']).toBe('mine');
  });
});

describe('values that cannot work', () => {
  it.each<[what: string, values: object, complaint: RegExp]>([
    ['an unknown name', { replica: 2 }, /additional properties 'replica' not allowed/i],
    ['an unknown name further in', { images: { operator: { tags: 'x' } } }, /images.*operator/s],
    ['text for a number', { replicas: 'two' }, /replicas.*integer/s],
    ['too many replicas', { replicas: 6 }, /replicas.*maximum/s],
    ['an unknown log level', { logLevel: 'loud' }, /logLevel/],
    ['a namespace with capitals', { watchNamespaces: ['Team'] }, /watchNamespaces/],
    ['the same namespace twice', { watchNamespaces: ['a', 'a'] }, /watchNamespaces/],
    ['a digest that is none', { images: { runtime: { digest: 'latest' } } }, /digest/],
    ['no time to be placed', { placementTimeoutSeconds: 0 }, /placementTimeoutSeconds/],
    ['metrics on the health port', { metrics: { port: 8081 } }, /port/],
    [
      'two operators without a leader',
      { leaderElection: { enabled: false } },
      /leaderElection\.enabled must be true/,
    ],
    ['an account without a name', { serviceAccount: { create: false } }, /serviceAccount\.name is needed/],
  ])('are refused: %s', async (_what, values, complaint) => {
    const { code, stderr } = await helm(['template', 'r', CHART], { values });
    expect(stderr).toMatch(complaint);
    expect(code).not.toBe(0);
  });
});

describe('alerts', () => {
  it('pass promtool, and fire when they should', async () => {
    const promtool = await toolPath('promtool');
    await command(promtool, ['check', 'rules', '--lint=all', '--lint-fatal', `${CHART}files/alerts.yaml`]);
    await command(promtool, ['test', 'rules', `${CHART}tests/alerts.test.yaml`]);
  });

  it('have a unit test each', async () => {
    const tests = await readFile(`${CHART}tests/alerts.test.yaml`, 'utf8');
    const { groups } = parse(await readFile(`${CHART}files/alerts.yaml`, 'utf8')) as {
      groups: readonly { rules: readonly { alert: string }[] }[];
    };
    for (const { alert } of groups.flatMap(({ rules }) => rules))
      expect(tests, alert).toMatch(
        new RegExp(`alertname: ${alert}\\n\\s+eval_time: \\w+\\n\\s+exp_alerts:\\n`),
      );
  });

  it('are the rule file, with the address of the runbook', async () => {
    const spec = only(
      await render({
        metrics: { prometheusRule: { enabled: true, runbookUrl: 'https://example.org/operations' } },
      }),
      'PrometheusRule',
    )['spec'];
    const file = await readFile(`${CHART}files/alerts.yaml`, 'utf8');
    expect(spec).toEqual(parse(file.replaceAll('RUNBOOK', 'https://example.org/operations')));
  });
});

describe('dashboards', () => {
  it('are carried whole, with ids of their own', async () => {
    const { data } = only(await render(ALL_ON), 'ConfigMap') as unknown as { data: Record<string, string> };
    expect(Object.keys(data)).toEqual(['internvl-operator.json', 'internvl-serving.json']);
    for (const [name, text] of Object.entries(data)) {
      expect(text).toBe(await readFile(`${CHART}files/dashboards/${name}`, 'utf8'));
      const { uid, panels } = JSON.parse(text) as { uid: string; panels: readonly { id: number }[] };
      expect(`${uid}.json`).toBe(name);
      expect(new Set(panels.map(({ id }) => id)).size).toBe(panels.length);
    }
  });
});
