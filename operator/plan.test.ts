import { describe, expect, it } from 'vitest';
import type { V1Pod } from '@kubernetes/client-node';
import { aDeployment as deployment } from '../test/support/deployment.ts';
import { plan } from './plan.ts';

const CONFIG = { runtimeImage: 'runtime:1', routerImage: 'router:1' };

const revision = (spec: Record<string, unknown>) => plan(deployment(spec), CONFIG).revision;

function args(pod: V1Pod | undefined, container = 0): Map<string, string> {
  const list = pod?.spec?.containers[container]?.args ?? [];
  return new Map(list.flatMap((arg, index) => (arg.startsWith('--') ? [[arg, list[index + 1] ?? '']] : [])));
}

describe('plan', () => {
  it('makes one pod a rank, named by deployment, revision, replica and rank', () => {
    const planned = plan(deployment({ replicas: 2, tensorParallel: { size: 2 } }), CONFIG);
    const names = planned.replicas.flatMap(({ pods }) => pods.map((pod) => pod.metadata?.name));
    expect(planned.revision).toMatch(/^[0-9a-f]{8}$/);
    expect(names).toEqual([0, 1].flatMap((r) => [0, 1].map((k) => `demo-${planned.revision}-${r}-${k}`)));
  });

  it('gives every rank its number and the addresses of all ranks of its own replica', () => {
    const planned = plan(deployment({ replicas: 2, tensorParallel: { size: 2 } }), CONFIG);
    const r = planned.revision;
    for (const [replica, { pods }] of planned.replicas.entries())
      for (const [rank, pod] of pods.entries()) {
        expect(args(pod).get('--rank')).toBe(String(rank));
        expect(args(pod).get('--world-size')).toBe('2');
        expect(args(pod).get('--ranks')).toBe(
          [0, 1].map((k) => `demo-${r}-${replica}-${k}.demo-ranks.vision.svc:50051`).join(','),
        );
        expect(`${pod.spec?.hostname}.${pod.spec?.subdomain}`).toBe(
          `demo-${r}-${replica}-${rank}.demo-ranks`,
        );
      }
  });

  it('turns the engine settings into flags, and leaves out what is not set', () => {
    const engine = {
      dtype: 'float32',
      maxModelLength: 2048,
      maxSequences: 8,
      maxBatchedTokens: 256,
      kvCache: { bytes: '1Gi' },
      limits: { maxImages: 2, maxImageBytes: '1Mi' },
    };
    const [pod] = plan(deployment({ engine }), CONFIG).replicas[0]?.pods ?? [];
    expect(Object.fromEntries(args(pod))).toMatchObject({
      '--model': '/model',
      '--served-name': 'demo',
      '--dtype': 'float32',
      '--max-model-length': '2048',
      '--max-sequences': '8',
      '--max-batched-tokens': '256',
      '--kv-cache-bytes': String(2 ** 30),
      '--max-images': '2',
      '--max-image-bytes': String(2 ** 20),
    });
    expect(args(pod).has('--kv-cache-fraction')).toBe(false);
    const [plain] = plan(deployment(), CONFIG).replicas[0]?.pods ?? [];
    expect(args(plain).get('--dtype')).toBe('bfloat16');
    expect(args(plain).has('--max-model-length')).toBe(false);
    expect(args(plain).has('--kv-cache-bytes')).toBe(false);
  });

  it('puts all ranks into one pod with ports of their own for topology SinglePod', () => {
    const planned = plan(deployment({ tensorParallel: { size: 4, topology: 'SinglePod' } }), CONFIG);
    const pods = planned.replicas[0]?.pods ?? [];
    const name = `demo-${planned.revision}-0`;
    expect(pods.map((pod) => pod.metadata?.name)).toEqual([name]);
    const containers = pods[0]?.spec?.containers ?? [];
    expect(containers.map(({ ports }) => ports?.map(({ containerPort }) => containerPort))).toEqual(
      [0, 1, 2, 3].map((k) => [50051 + k, 9090 + k]),
    );
    expect(args(pods[0], 3).get('--listen')).toBe('0.0.0.0:50054');
    expect(args(pods[0], 3).get('--ranks')).toBe(
      [0, 1, 2, 3].map((k) => `${name}.demo-ranks.vision.svc:${50051 + k}`).join(','),
    );
  });

  it('tells the router of the leader of every replica', () => {
    const planned = plan(deployment({ replicas: 2, tensorParallel: { size: 2 } }), CONFIG);
    const routerArgs = planned.router.spec?.template.spec?.containers[0]?.args ?? [];
    const r = planned.revision;
    expect(routerArgs.filter((_, index) => routerArgs[index - 1] === '--replica')).toEqual([
      `demo-${r}-0=demo-${r}-0-0.demo-ranks.vision.svc:50051`,
      `demo-${r}-1=demo-${r}-1-0.demo-ranks.vision.svc:50051`,
    ]);
    expect(routerArgs.join(' ')).toContain(
      '--queue-max-bytes 268435456 --queue-max-wait-ms 60000 --max-images 4',
    );
    expect(planned.router.metadata?.name).toBe('demo-router');
    expect(planned.routerService.spec?.selector).toEqual(planned.router.spec?.selector.matchLabels);
  });

  it('keeps the router and no rank at zero replicas', () => {
    const planned = plan(deployment({ replicas: 0 }), CONFIG);
    expect(planned.replicas).toEqual([]);
    expect(planned.router.spec?.replicas).toBe(1);
  });

  it('asks for one device a rank beside the other limits', () => {
    const spec = {
      device: { resourceName: 'nvidia.com/gpu' },
      resources: { limits: { memory: '8Gi', cpu: 2 } },
    };
    const [pod] = plan(deployment(spec), CONFIG).replicas[0]?.pods ?? [];
    expect(pod?.spec?.containers[0]?.resources).toEqual({
      limits: { memory: '8Gi', cpu: '2', 'nvidia.com/gpu': '1' },
    });
  });

  it.each([
    ['file:///models/demo', { hostPath: { path: '/models/demo', type: 'Directory' } }, undefined],
    ['pvc://weights', { persistentVolumeClaim: { claimName: 'weights', readOnly: true } }, undefined],
    ['pvc://weights/a/b', { persistentVolumeClaim: { claimName: 'weights', readOnly: true } }, 'a/b'],
  ])('mounts %s', (source, volume, subPath) => {
    const [pod] = plan(deployment({ model: { source } }), CONFIG).replicas[0]?.pods ?? [];
    expect(pod?.spec?.volumes).toEqual([{ name: 'model', ...volume }]);
    expect(pod?.spec?.containers[0]?.volumeMounts?.[0]?.subPath).toBe(subPath);
  });

  it.each(['hf://owner/name', 's3://bucket/x', 'oci://image', 'file:relative'])(
    'refuses to mount %s',
    (source) => {
      expect(() => plan(deployment({ model: { source } }), CONFIG)).toThrow(source);
    },
  );

  it('owns its children once the API server has given a uid', () => {
    const owner = deployment();
    owner.metadata.uid = 'u-1';
    const planned = plan(owner, CONFIG);
    const references = [
      planned.replicas[0]?.pods[0],
      planned.router,
      planned.routerService,
      planned.ranksService,
    ];
    for (const child of references)
      expect(child?.metadata?.ownerReferences).toMatchObject([{ uid: 'u-1', controller: true }]);
    expect(plan(deployment(), CONFIG).router.metadata).not.toHaveProperty('ownerReferences');
  });

  it('is the same for the same input', () => {
    const spec = { replicas: 3, tensorParallel: { size: 4 } };
    expect(plan(deployment(spec), CONFIG)).toEqual(plan(deployment(spec), CONFIG));
  });
});

describe('the revision', () => {
  const base = { replicas: 1, tensorParallel: { size: 2 } };

  it.each([
    ['replicas', { ...base, replicas: 5 }],
    ['rollout', { ...base, rollout: { strategy: 'Recreate' } }],
    ['router', { ...base, router: { queue: { maxRequests: 5 } } }],
    ['interconnect', { tensorParallel: { size: 2, interconnect: 'Required' } }],
    ['a default that is written out', { ...base, engine: { dtype: 'auto' } }],
    ['an empty optional part', { ...base, nodeSelector: {}, tolerations: [] }],
    ['the order of keys', { tensorParallel: { topology: 'PodPerRank', size: 2 }, replicas: 1 }],
  ])('stays with a change of %s', (_, spec) => {
    expect(revision(spec)).toBe(revision(base));
  });

  it.each([
    ['model', { ...base, model: { source: 'file:///models/other' } }],
    ['model revision', { ...base, model: { source: 'file:///models/demo', revision: 'abc' } }],
    ['size', { tensorParallel: { size: 4 } }],
    ['topology', { tensorParallel: { size: 2, topology: 'SinglePod' } }],
    ['dtype', { ...base, engine: { dtype: 'float32' } }],
    ['image', { ...base, image: 'runtime:2' }],
    ['resources', { ...base, resources: { limits: { memory: '1Gi' } } }],
    ['node selector', { ...base, nodeSelector: { zone: 'a' } }],
  ])('changes with %s', (_, spec) => {
    expect(revision(spec)).not.toBe(revision(base));
  });
});
