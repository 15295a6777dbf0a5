import { describe, expect, it } from 'vitest';
import type { V1Container, V1Pod } from '@kubernetes/client-node';
import { aDeployment } from '../../test/support/deployment.ts';
import { baseName } from '../names.ts';
import { revisionOf, revisionTemplate } from '../revision.ts';
import type { GroupPlace } from './group-place.ts';
import { rankAddress, rankPods } from './rank-pods.ts';
import { resourceClaim } from './resource-claim.ts';

const PLACE: GroupPlace = {
  deployment: { name: 'demo', namespace: 'vision', uid: 'u-1' },
  revision: 'deadbeef',
  index: 3,
};
const PVC = { model: { source: 'pvc://checkpoints/demo' } };
const template = (spec: Record<string, unknown>) =>
  revisionTemplate(aDeployment({ ...PVC, ...spec }), { runtimeImage: 'runtime:1' });
const pods = (spec: Record<string, unknown>, place = PLACE) => rankPods(template(spec), place);
const container = (pod: V1Pod | undefined, index = 0): V1Container | undefined =>
  pod?.spec?.containers[index];

const tensorParallel = (size: number, topology = 'PodPerRank', interconnect = 'Preferred') => ({
  tensorParallel: { size, topology, interconnect },
});
const PLUGIN = { device: { resourceName: 'nvidia.com/gpu' } };
const CLASS = { device: { deviceClassName: 'gpu.nvidia.com' } };

const OWN_SCRATCH = {
  volumes: [
    { name: 'tmp', emptyDir: { sizeLimit: '1Gi' } },
    { name: 'shm', emptyDir: { medium: 'Memory', sizeLimit: '2Gi' } },
  ],
  mounts: [
    { name: 'tmp', mountPath: '/tmp' },
    { name: 'shm', mountPath: '/dev/shm' },
  ],
};
const HOST_SCRATCH = {
  volumes: [{ name: 'shm', hostPath: { path: '/dev/shm', type: 'Directory' } }],
  mounts: [
    { name: 'shm', mountPath: '/tmp' },
    { name: 'shm', mountPath: '/dev/shm' },
  ],
};
const GATES = [
  { name: 'NODE_NAME', valueFrom: { fieldRef: { fieldPath: 'spec.nodeName' } } },
  { name: 'NCCL_HOSTID', value: 'demo-deadbeef-3-$(NODE_NAME)' },
  { name: 'NCCL_IPC_USE_ABSTRACT_SOCKET', value: '0' },
];
const visible = (rank: number) => [
  { name: 'CUDA_DEVICE_ORDER', value: 'PCI_BUS_ID' },
  { name: 'CUDA_VISIBLE_DEVICES', value: String(rank) },
];
const REFERENCE = [{ name: 'devices', resourceClaimName: 'demo-deadbeef-3' }];

describe('topology and device', () => {
  it.each([
    ['CPU ranks in pods', tensorParallel(2), { env: () => [], scratch: OWN_SCRATCH, resources: {} }],
    [
      'CPU ranks in one pod',
      tensorParallel(2, 'SinglePod'),
      { env: () => [], scratch: OWN_SCRATCH, resources: {} },
    ],
    [
      'a device plugin and pods: no gate is opened, since the peer is not granted',
      { ...tensorParallel(2), ...PLUGIN },
      { env: () => [], scratch: OWN_SCRATCH, resources: { limits: { 'nvidia.com/gpu': '1' } } },
    ],
    [
      'a device plugin and one pod',
      { ...tensorParallel(2, 'SinglePod'), ...PLUGIN },
      { env: () => [], scratch: OWN_SCRATCH, resources: { limits: { 'nvidia.com/gpu': '1' } } },
    ],
    [
      'a claim and pods: all gates are opened',
      { ...tensorParallel(2), ...CLASS },
      {
        env: (rank: number) => [...visible(rank), ...GATES],
        scratch: HOST_SCRATCH,
        resources: { claims: [{ name: 'devices' }] },
        claim: true,
      },
    ],
    [
      'a claim and one pod',
      { ...tensorParallel(2, 'SinglePod'), ...CLASS },
      { env: visible, scratch: OWN_SCRATCH, resources: { claims: [{ name: 'devices' }] }, claim: true },
    ],
    [
      'a claim for one rank',
      { ...tensorParallel(1), ...CLASS },
      { env: visible, scratch: OWN_SCRATCH, resources: { claims: [{ name: 'devices' }] }, claim: true },
    ],
  ])('%s', (_, spec, expected) => {
    const made = pods(spec);
    const all = made.flatMap((pod) => (pod.spec?.containers ?? []).map((c) => ({ pod, c })));
    expect(all).toHaveLength(spec.tensorParallel.size);
    for (const [rank, { pod, c }] of all.entries()) {
      expect(c.env).toEqual([
        { name: 'POD_IP', valueFrom: { fieldRef: { fieldPath: 'status.podIP' } } },
        { name: 'MALLOC_ARENA_MAX', value: '2' },
        { name: 'NODE_OPTIONS', value: '--max-semi-space-size=2' },
        ...expected.env(rank),
      ]);
      expect(pod.spec?.volumes).toEqual([
        { name: 'model', persistentVolumeClaim: { claimName: 'checkpoints', readOnly: true } },
        ...expected.scratch.volumes,
      ]);
      expect(c.volumeMounts).toEqual([
        { name: 'model', mountPath: '/model', readOnly: true, subPath: 'demo' },
        ...expected.scratch.mounts,
      ]);
      expect(c.resources).toEqual(expected.resources);
      expect(pod.spec?.resourceClaims).toEqual('claim' in expected ? REFERENCE : undefined);
    }
    expect(resourceClaim(template(spec), PLACE) !== undefined).toBe('claim' in expected);
  });

  it('claims all devices of a group at once', () => {
    expect(resourceClaim(template({ ...tensorParallel(4), ...CLASS }), PLACE)).toMatchObject({
      apiVersion: 'resource.k8s.io/v1',
      kind: 'ResourceClaim',
      metadata: {
        name: 'demo-deadbeef-3',
        namespace: 'vision',
        ownerReferences: [{ uid: 'u-1', controller: true }],
        labels: { 'internvl.dev/group': 'demo-deadbeef-3', 'internvl.dev/revision': 'deadbeef' },
      },
      spec: {
        devices: {
          requests: [
            {
              name: 'devices',
              exactly: { deviceClassName: 'gpu.nvidia.com', allocationMode: 'ExactCount', count: 4 },
            },
          ],
        },
      },
    });
  });
});

describe('a rank pod', () => {
  const [first, second] = pods(tensorParallel(2));

  it('meets PodSecurity restricted from a claim on CPUs', () => {
    for (const pod of [first, second]) {
      expect(pod?.spec?.securityContext).toEqual({
        runAsNonRoot: true,
        runAsUser: 65532,
        runAsGroup: 65532,
        fsGroup: 65532,
        fsGroupChangePolicy: 'OnRootMismatch',
        seccompProfile: { type: 'RuntimeDefault' },
      });
      expect(container(pod)?.securityContext).toEqual({
        allowPrivilegeEscalation: false,
        readOnlyRootFilesystem: true,
        capabilities: { drop: ['ALL'] },
      });
      expect(pod?.spec).not.toHaveProperty('hostNetwork');
      expect(pod?.spec).not.toHaveProperty('hostIPC');
      expect(pod?.spec?.volumes?.filter(({ hostPath }) => hostPath)).toEqual([]);
    }
  });

  it('is labelled by deployment, revision, index, group and rank', () => {
    expect(second?.metadata).toMatchObject({ name: 'demo-deadbeef-3-1', namespace: 'vision' });
    expect(second?.metadata?.labels).toEqual({
      'app.kubernetes.io/name': 'internvl',
      'app.kubernetes.io/instance': 'demo',
      'app.kubernetes.io/component': 'runtime',
      'app.kubernetes.io/managed-by': 'internvl-operator',
      'internvl.dev/deployment': 'demo',
      'internvl.dev/revision': 'deadbeef',
      'internvl.dev/replica': '3',
      'internvl.dev/group': 'demo-deadbeef-3',
      'internvl.dev/rank': '1',
    });
  });

  it('waits for a router only where it is rank 0', () => {
    expect(first?.spec?.readinessGates).toEqual([{ conditionType: 'internvl.dev/RouterAcknowledged' }]);
    expect(second?.spec).not.toHaveProperty('readinessGates');
    expect(pods(tensorParallel(2, 'SinglePod'))[0]?.spec?.readinessGates).toHaveLength(1);
  });

  it('is never restarted in place, has no token, and keeps its last lines', () => {
    expect(first?.spec).toMatchObject({
      restartPolicy: 'Never',
      serviceAccountName: 'demo-ranks',
      automountServiceAccountToken: false,
      enableServiceLinks: false,
      terminationGracePeriodSeconds: 40,
      hostname: 'demo-deadbeef-3-0',
      subdomain: 'demo-ranks',
    });
    expect(container(first)).toMatchObject({ terminationMessagePolicy: 'FallbackToLogsOnError' });
    expect(container(first)).not.toHaveProperty('lifecycle');
  });

  it('leaves a lost node after 30 s, unless its deployment says otherwise', () => {
    const short = (key: string) => ({ key, operator: 'Exists', effect: 'NoExecute', tolerationSeconds: 30 });
    const [notReady, unreachable] = [
      'node.kubernetes.io/not-ready',
      'node.kubernetes.io/unreachable',
    ] as const;
    expect(first?.spec?.tolerations).toEqual([short(notReady), short(unreachable)]);
    const own = { key: notReady, operator: 'Exists', effect: 'NoExecute', tolerationSeconds: 600 };
    expect(pods({ tolerations: [own] })[0]?.spec?.tolerations).toEqual([own, short(unreachable)]);
  });

  it('is probed patiently until it has answered once', () => {
    const probe = { httpGet: { path: '/healthz', port: 9090 } };
    expect(container(first)).toMatchObject({
      startupProbe: { ...probe, periodSeconds: 1, failureThreshold: 300 },
      livenessProbe: { ...probe, periodSeconds: 10, failureThreshold: 6 },
      readinessProbe: { grpc: { port: 50051 } },
    });
  });

  it('carries what the template says beside its own', () => {
    const [pod] = pods({
      podTemplate: {
        labels: { team: 'vision' },
        annotations: { note: 'x' },
        env: [
          { name: 'NODE_OPTIONS', value: '' },
          { name: 'NCCL_DEBUG', value: 'INFO' },
        ],
        runtimeClassName: 'nvidia',
      },
      image: 'own:2',
      imagePullPolicy: 'Never',
      imagePullSecrets: [{ name: 'pull' }],
      priorityClassName: 'high',
      nodeSelector: { zone: 'a' },
    });
    expect(pod?.metadata).toMatchObject({
      labels: { team: 'vision', 'internvl.dev/rank': '0' },
      annotations: { note: 'x' },
    });
    expect(pod?.spec).toMatchObject({
      runtimeClassName: 'nvidia',
      priorityClassName: 'high',
      nodeSelector: { zone: 'a' },
      imagePullSecrets: [{ name: 'pull' }],
    });
    expect(container(pod)).toMatchObject({ image: 'own:2', imagePullPolicy: 'Never' });
    // The last of two equal names would win; there is only one.
    expect(container(pod)?.env?.filter(({ name }) => name === 'NODE_OPTIONS')).toEqual([
      { name: 'NODE_OPTIONS', value: '' },
    ]);
  });
});

describe('a demand on the interconnect', () => {
  it.each([
    ['ranks with devices', { ...CLASS, ...tensorParallel(2, 'PodPerRank', 'Required') }, true, true],
    ['ranks with devices, nothing demanded', { ...CLASS, ...tensorParallel(2) }, false, false],
    ['one rank', { ...CLASS, ...tensorParallel(1, 'PodPerRank', 'Required') }, true, false],
    ['CPU ranks', tensorParallel(2, 'PodPerRank', 'Required'), true, false],
  ])('is told to %s', (_, spec, interconnectRequired, told) => {
    for (const pod of pods(spec, { ...PLACE, interconnectRequired })) {
      const named = container(pod)?.env?.filter(({ name }) => name === 'INTERNVL_INTERCONNECT');
      expect(named).toEqual(told ? [{ name: 'INTERNVL_INTERCONNECT', value: 'required' }] : []);
    }
  });
});

describe('placement', () => {
  const term = {
    labelSelector: {
      matchExpressions: [{ key: 'internvl.dev/group', operator: 'In', values: ['demo-deadbeef-3'] }],
    },
    topologyKey: 'kubernetes.io/hostname',
  };

  it.each([
    [
      'on one node',
      tensorParallel(2),
      { podAffinity: { requiredDuringSchedulingIgnoredDuringExecution: [term] } },
    ],
    [
      'rather on one node for Any',
      tensorParallel(2, 'PodPerRank', 'Any'),
      {
        podAffinity: {
          preferredDuringSchedulingIgnoredDuringExecution: [{ weight: 100, podAffinityTerm: term }],
        },
      },
    ],
    ['anywhere with one rank', tensorParallel(1), undefined],
    ['anywhere with one pod', tensorParallel(4, 'SinglePod'), undefined],
  ])('is %s', (_, spec, expected) => {
    for (const pod of pods(spec)) expect(pod.spec?.affinity).toEqual(expected);
  });

  it('keeps away from nodes in every alternative that is asked for', () => {
    const expression = (zone: string) => ({ key: 'zone', operator: 'In', values: [zone] });
    const nodeSelectorTerms = ['a', 'b'].map((zone) => ({ matchExpressions: [expression(zone)] }));
    const affinity = {
      nodeAffinity: { requiredDuringSchedulingIgnoredDuringExecution: { nodeSelectorTerms } },
    };
    const away = { ...PLACE, avoidNodes: ['n1', 'n2'] };
    const matchFields = ['n1', 'n2'].map((node) => ({
      key: 'metadata.name',
      operator: 'NotIn',
      values: [node],
    }));
    const terms = (spec: Record<string, unknown>) =>
      pods(spec, away)[0]?.spec?.affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution
        ?.nodeSelectorTerms;
    expect(terms({ affinity })).toEqual(nodeSelectorTerms.map((asked) => ({ ...asked, matchFields })));
    expect(terms({})).toEqual([{ matchFields }]);
  });
});

describe('names', () => {
  it.each(['demo', 'a.b', 'a'.repeat(253), `${'x'.repeat(62)}.y`])(
    'of all pods of %s are host names and labels',
    (name) => {
      const place = { ...PLACE, deployment: { name, namespace: 'vision' }, index: 9999 };
      for (const topology of ['PodPerRank', 'SinglePod'])
        for (const [rank, pod] of pods(tensorParallel(8, topology), place).entries()) {
          const labels = Object.values(pod.metadata?.labels ?? {});
          for (const text of [pod.metadata?.name, pod.spec?.hostname, pod.spec?.subdomain, ...labels])
            expect(text).toMatch(/^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/);
          expect(rankAddress(template(tensorParallel(8, topology)), place, rank)).toBe(
            `${pod.spec?.hostname}.${baseName(name)}-ranks.vision.svc:50051`,
          );
          expect(pod.metadata).not.toHaveProperty('ownerReferences');
        }
    },
  );
});

describe('the revision', () => {
  it('of a spec never changes with the operator: another hash would restart every group', () => {
    expect(revisionOf(aDeployment({ model: { source: 'file:///models/demo' } }))).toMatchInlineSnapshot(
      `"8cac15c0"`,
    );
    expect(
      revisionOf(aDeployment({ ...PVC, ...tensorParallel(8), ...CLASS, image: 'r:1' })),
    ).toMatchInlineSnapshot(`"389fda86"`);
  });

  it.each([
    ['an affinity', { affinity: { nodeAffinity: {} } }, false],
    [
      'a needed node',
      {
        affinity: {
          nodeAffinity: {
            requiredDuringSchedulingIgnoredDuringExecution: {
              nodeSelectorTerms: [{ matchExpressions: [{ key: 'a', operator: 'Exists' }] }],
            },
          },
        },
      },
      true,
    ],
    ['a pod label', { podTemplate: { labels: { a: 'b' } } }, true],
    ['Required for Preferred', tensorParallel(1, 'PodPerRank', 'Required'), false],
    ['Any for Preferred', tensorParallel(1, 'PodPerRank', 'Any'), true],
    ['the router', { router: { replicas: 3 } }, false],
    ['replicas', { replicas: 7 }, false],
    ['a device class', CLASS, true],
  ])('with %s', (_, spec, changes) => {
    expect(revisionOf(aDeployment(spec)) !== revisionOf(aDeployment())).toBe(changes);
  });

  it('takes quantities as numbers and as text for the same', () => {
    const limits = (cpu: unknown) => revisionOf(aDeployment({ resources: { limits: { cpu } } }));
    expect(limits(2)).toBe(limits('2'));
  });
});
