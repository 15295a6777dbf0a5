import { describe, expect, it } from 'vitest';
import type { V1Deployment } from '@kubernetes/client-node';
import { aDeployment } from '../../test/support/deployment.ts';
import { interconnectState } from '../interconnect.ts';
import { revisionOf, revisionTemplate } from '../revision.ts';
import { NAMESPACED_RULES } from '../rules.ts';
import { children } from './children.ts';
import { modelSourceProblem } from './model-volume.ts';
import { parseRevisionConfigMap, revisionConfigMap } from './revision-config-map.ts';

const CONFIG = { routerImage: 'router:1', networkPolicy: true };
const made = (spec: Record<string, unknown> = {}, config = CONFIG) => children(aDeployment(spec), config);
const of = (kind: string, name: string, spec: Record<string, unknown> = {}) =>
  made(spec).find((child) => child.kind === kind && child.metadata.name === name);
const router = (spec: Record<string, unknown> = {}) =>
  of('Deployment', 'demo-router', spec) as unknown as V1Deployment;

describe('children', () => {
  it('are all that a deployment needs beside its groups', () => {
    const names = (spec = {}, config = CONFIG) =>
      made(spec, config).map(({ kind, metadata }) => `${kind}/${metadata.name}`);
    const always = [
      'ServiceAccount/demo-ranks',
      'ServiceAccount/demo-router',
      'ConfigMap/demo-routers',
      'Role/demo-router',
      'RoleBinding/demo-router',
      'Service/demo-ranks',
      'Service/demo-router',
      'PodDisruptionBudget/demo-ranks',
    ];
    expect(names({}, { ...CONFIG, networkPolicy: false })).toEqual([...always, 'Deployment/demo-router']);
    expect(names({ router: { replicas: 2 } })).toEqual([
      ...always,
      'PodDisruptionBudget/demo-router',
      'NetworkPolicy/demo-ranks',
      'NetworkPolicy/demo-router',
      'Deployment/demo-router',
    ]);
  });

  it('are owned and labelled, each of them', () => {
    const owner = aDeployment({ router: { replicas: 2 } });
    owner.metadata.uid = 'u-1';
    for (const child of children(owner, CONFIG)) {
      expect(child.metadata).toMatchObject({
        namespace: 'vision',
        ownerReferences: [{ uid: 'u-1', controller: true, kind: 'InternVLDeployment' }],
        labels: { 'internvl.dev/deployment': 'demo', 'app.kubernetes.io/managed-by': 'internvl-operator' },
      });
    }
  });

  it('give the router the rights that the operator holds itself, and its own report alone', () => {
    expect(of('Role', 'demo-router')?.['rules']).toEqual([
      { apiGroups: [''], resources: ['pods'], verbs: ['get', 'list', 'watch'] },
      {
        apiGroups: [''],
        resources: ['configmaps'],
        resourceNames: ['demo-routers'],
        verbs: ['get', 'patch'],
      },
    ]);
    for (const resource of ['pods', 'configmaps'])
      expect(NAMESPACED_RULES.find(({ resources }) => resources.includes(resource))?.verbs).toEqual(
        expect.arrayContaining(resource === 'pods' ? ['get', 'list', 'watch'] : ['get', 'patch']),
      );
    expect(of('RoleBinding', 'demo-router')).toMatchObject({
      roleRef: { kind: 'Role', name: 'demo-router' },
      subjects: [{ kind: 'ServiceAccount', name: 'demo-router', namespace: 'vision' }],
    });
    expect(of('ConfigMap', 'demo-routers')).not.toHaveProperty('data');
  });

  it('let no rank be evicted, counted in pods and not in groups', () => {
    const budget = of('PodDisruptionBudget', 'demo-ranks')?.['spec'];
    expect(budget).toMatchObject({ minAvailable: 100_000 });
    expect(budget).not.toHaveProperty('maxUnavailable');
    expect(of('PodDisruptionBudget', 'demo-router', { router: { replicas: 2 } })?.['spec']).toMatchObject({
      maxUnavailable: 1,
    });
  });

  it('let ranks talk among themselves, with routers and with scrapers', () => {
    const ranks = {
      podSelector: { matchLabels: expect.objectContaining({ 'app.kubernetes.io/component': 'runtime' }) },
    };
    const routers = {
      podSelector: { matchLabels: expect.objectContaining({ 'app.kubernetes.io/component': 'router' }) },
    };
    expect(of('NetworkPolicy', 'demo-ranks')?.['spec']).toMatchObject({
      ...ranks,
      ingress: [
        { from: [ranks] },
        { from: [routers], ports: [{ port: 50051, endPort: 50058 }] },
        { ports: [{ port: 9090, endPort: 9097 }] },
      ],
      egress: [
        { to: [ranks] },
        {
          ports: [
            { protocol: 'UDP', port: 53 },
            { protocol: 'TCP', port: 53 },
          ],
        },
      ],
    });
  });
});

describe('the router', () => {
  it('finds groups and reports through the API', () => {
    const container = router().spec?.template.spec?.containers[0];
    expect(container?.args?.join(' ')).toBe(
      '--listen 0.0.0.0:50051 --metrics-listen 0.0.0.0:9090 --namespace vision --deployment-label demo ' +
        '--report-config-map demo-routers --pod-name $(POD_NAME) --pod-uid $(POD_UID) --served-name demo ' +
        '--queue-max-requests 1000 --queue-max-bytes 268435456 --queue-max-wait-ms 60000 --drain-timeout-ms 30000',
    );
    const fields = container?.env?.filter(({ valueFrom }) => valueFrom !== undefined);
    expect(fields?.map(({ name, valueFrom }) => [name, valueFrom?.fieldRef?.fieldPath])).toEqual([
      ['POD_NAME', 'metadata.name'],
      ['POD_UID', 'metadata.uid'],
      ['POD_IP', 'status.podIP'],
    ]);
  });

  it('keeps the memory of large requests for the next ones, and collects garbage in short pauses', () => {
    const values = router().spec?.template.spec?.containers[0]?.env?.filter(
      ({ value }) => value !== undefined,
    );
    expect(values).toEqual([
      { name: 'MALLOC_MMAP_THRESHOLD_', value: '33554432' },
      { name: 'MALLOC_TRIM_THRESHOLD_', value: '134217728' },
      { name: 'NODE_OPTIONS', value: '--max-semi-space-size=4' },
    ]);
  });

  it.each([
    ['replicas', { replicas: 9 }],
    ["the model's revision", { model: { source: 'hf://a/b', revision: 'x' } }],
    ['the engine', { engine: { maxSequences: 8, limits: { maxImages: 1 } } }],
    ['the runtime image', { image: 'runtime:2' }],
    ['the topology', { tensorParallel: { size: 8, topology: 'SinglePod' } }],
  ])('is not restarted by a change of %s', (_, spec) => {
    expect(router(spec).spec?.template).toEqual(router().spec?.template);
  });

  it('rolls without a gap, drains before it ends, and meets PodSecurity restricted', () => {
    const { spec } = router({ rollout: { drainTimeout: '90s' }, router: { replicas: 2 } });
    expect(spec).toMatchObject({
      replicas: 2,
      strategy: { type: 'RollingUpdate', rollingUpdate: { maxUnavailable: 0, maxSurge: 1 } },
    });
    expect(spec?.template.spec).toMatchObject({
      terminationGracePeriodSeconds: 105,
      serviceAccountName: 'demo-router',
      automountServiceAccountToken: true,
      securityContext: { runAsNonRoot: true, runAsUser: 65532, seccompProfile: { type: 'RuntimeDefault' } },
      topologySpreadConstraints: [
        { whenUnsatisfiable: 'ScheduleAnyway', topologyKey: 'kubernetes.io/hostname' },
      ],
      containers: [
        {
          readinessProbe: { httpGet: { path: '/readyz', port: 9090 } },
          lifecycle: { preStop: { sleep: { seconds: 5 } } },
          securityContext: {
            allowPrivilegeEscalation: false,
            readOnlyRootFilesystem: true,
            capabilities: { drop: ['ALL'] },
          },
        },
      ],
    });
  });

  it('is called through one Service, with metrics on it only when asked for', () => {
    const ports = (service: Record<string, unknown>) =>
      (of('Service', 'demo-router', { router: { service } })?.['spec'] as { ports: unknown[] } | undefined)
        ?.ports;
    expect(ports({})).toEqual([
      { name: 'grpc', port: 50051, targetPort: 'grpc', protocol: 'TCP', appProtocol: 'kubernetes.io/h2c' },
    ]);
    expect(ports({ grpcPort: 80, metricsPort: 81 })).toMatchObject([
      { port: 80 },
      { name: 'metrics', port: 81 },
    ]);
  });
});

describe('the revision ConfigMap', () => {
  const deployment = aDeployment({ tensorParallel: { size: 2 } });
  const template = revisionTemplate(deployment, { runtimeImage: 'runtime:1' });
  const revision = revisionOf(deployment);
  const configMap = revisionConfigMap(deployment, revision, template);

  it('gives back what was written', () => {
    expect(configMap).toMatchObject({
      metadata: { name: `demo-${revision}`, labels: { 'app.kubernetes.io/component': 'revision' } },
      immutable: true,
    });
    expect(parseRevisionConfigMap(configMap as never)).toEqual({ revision, template });
    expect(JSON.parse((configMap['data'] as Record<string, string>)['engine.json'] ?? '')).toMatchObject({
      servedName: 'demo',
      engine: { dtype: 'auto', maxSequences: 64 },
    });
  });

  it.each([
    ['no data', {}],
    ['no JSON', { 'template.json': '{' }],
    ['another shape', { 'template.json': '{"version":2}' }],
    ['null', { 'template.json': 'null' }],
  ])('is nothing with %s', (_, data) => {
    expect(parseRevisionConfigMap({ ...configMap, data } as never)).toBeUndefined();
  });
});

describe('sources and interconnect', () => {
  it.each(['hf://a/b', 's3://bucket/x', 'oci://r/x', 'file:relative'])('cannot mount %s', (source) => {
    expect(modelSourceProblem({ spec: { model: { source } } })).toContain(source);
  });

  it.each(['pvc://a', 'pvc://a/b/', 'file:///srv/x'])('can mount %s', (source) => {
    expect(modelSourceProblem({ spec: { model: { source } } })).toBeUndefined();
  });

  const plugin = { device: { resourceName: 'nvidia.com/gpu' } };
  const claim = { device: { deviceClassName: 'gpu.nvidia.com' } };
  const size = (topology: string, interconnect: string, ranks = 4) => ({
    tensorParallel: { size: ranks, topology, interconnect },
  });
  it.each([
    ['CPUs', size('PodPerRank', 'Required'), 'True', 'NotApplicable', false],
    ['one rank', { ...plugin, ...size('PodPerRank', 'Required', 1) }, 'True', 'NotApplicable', false],
    [
      'plugin, pods',
      { ...plugin, ...size('PodPerRank', 'Preferred') },
      'False',
      'RanksIsolatedByDevicePlugin',
      false,
    ],
    [
      'plugin, pods, Any',
      { ...plugin, ...size('PodPerRank', 'Any') },
      'False',
      'RanksIsolatedByDevicePlugin',
      false,
    ],
    [
      'plugin, pods, Required',
      { ...plugin, ...size('PodPerRank', 'Required') },
      'False',
      'RanksIsolatedByDevicePlugin',
      true,
    ],
    ['plugin, one pod', { ...plugin, ...size('SinglePod', 'Required') }, 'Unknown', 'NotMeasured', false],
    ['claim, pods', { ...claim, ...size('PodPerRank', 'Required') }, 'Unknown', 'NotMeasured', false],
  ])('say of %s what is known', (_, spec, status, reason, blocksPods) => {
    const state = interconnectState(aDeployment(spec));
    expect(state).toMatchObject({ status, reason, blocksPods });
    if (status === 'False') expect(state.message).toMatch(/deviceClassName.*SinglePod/);
  });
});
