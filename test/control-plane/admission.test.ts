// What the API server takes and what it refuses, by the CRD alone. Each refusal must name the field and the rule.
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, it } from 'vitest';
import { parseAllDocuments } from 'yaml';
import { controlPlane, type ControlPlane } from '../support/control-plane.ts';

const CRD = fileURLToPath(new URL('../../crds/internvldeployments.yaml', import.meta.url));
const MODEL = { source: 'pvc://checkpoints/demo' };
const longest = 'a'.repeat(253);

type Spec = Record<string, unknown>;

/** A manifest that is good but for `spec`. */
function manifest(spec: Spec, name = 'demo'): Record<string, unknown> {
  return {
    apiVersion: 'internvl.dev/v1alpha1',
    kind: 'InternVLDeployment',
    metadata: { name },
    spec: { model: MODEL, ...spec },
  };
}

const source = (text: string, rest: Spec = {}): Spec => ({ model: { source: text, ...rest } });
const required = (nodeSelectorTerms: unknown): Spec => ({
  affinity: {
    nodeAffinity: { requiredDuringSchedulingIgnoredDuringExecution: { nodeSelectorTerms } },
  },
});

const BAD: readonly (readonly [what: string, spec: Spec, field: string, rule: string])[] = [
  ['an unknown field', { replica: 2 }, 'spec.replica', 'unknown field'],
  ['an unknown nested field', { engine: { dtyp: 'float32' } }, 'spec.engine.dtyp', 'unknown field'],
  ['TLS, which the router has not', { router: { tls: {} } }, 'spec.router.tls', 'unknown field'],
  ['auth, which the router has not', { router: { auth: {} } }, 'spec.router.auth', 'unknown field'],
  ['no source', { model: {} }, 'spec.model.source', 'Required value'],
  ['an unknown scheme', source('http://x/y'), 'spec.model.source', 'should match'],
  ['an hf source without owner', source('hf://name'), 'spec.model.source', 'hf://owner/name'],
  ['an hf source with a path', source('hf://a/b/c'), 'spec.model.source', 'hf://owner/name'],
  ['a claim in capitals', source('pvc://Claim/x'), 'spec.model.source', 'pvc://claim/path'],
  ['a claim with .. in its path', source('pvc://claim/../x'), 'spec.model.source', 'no .. in its path'],
  ['a relative file', source('file:demo-model'), 'spec.model.source', '`internvl up`'],
  ['a file of a host', source('file://host/x'), 'spec.model.source', 'file:///absolute/path'],
  ['the root as file', source('file:///'), 'spec.model.source', 'file:///absolute/path'],
  ['a file with ..', source('file:///srv/../etc'), 'spec.model.source', 'no .. in its path'],
  ['a bucket of two letters', source('s3://ab/x'), 'spec.model.source', 's3://bucket/prefix'],
  ['an image without a name', source('oci://registry'), 'spec.model.source', 'oci://registry/name'],
  ['a source of 2000 letters', source(`hf://a/${'b'.repeat(2000)}`), 'spec.model.source', 'Too long'],
  ['a revision of a claim', source('pvc://a', { revision: 'x' }), 'spec.model', 'revision is for hf://'],
  ['two revisions', source('hf://a/b@x', { revision: 'x' }), 'spec.model', 'not in both'],
  [
    'a secret for a directory',
    source('file:///srv', { secretRef: { name: 'x' } }),
    'spec.model',
    'secretRef is for hf://',
  ],
  [
    'a served name with spaces',
    source('pvc://a', { servedName: 'a b' }),
    'spec.model.servedName',
    'should match',
  ],
  ['replicas below 0', { replicas: -1 }, 'spec.replicas', 'greater than or equal to 0'],
  ['replicas beyond 1000', { replicas: 1001 }, 'spec.replicas', 'less than or equal to 1000'],
  ['replicas as text', { replicas: 'two' }, 'spec.replicas', 'must be of type integer'],
  [
    'size 3',
    { tensorParallel: { size: 3 } },
    'spec.tensorParallel.size',
    '56 query heads and 8 key-value heads',
  ],
  [
    'size 7',
    { tensorParallel: { size: 7 } },
    'spec.tensorParallel.size',
    '56 query heads and 8 key-value heads',
  ],
  ['size 0', { tensorParallel: { size: 0 } }, 'spec.tensorParallel.size', 'greater than or equal to 1'],
  ['size 16', { tensorParallel: { size: 16 } }, 'spec.tensorParallel.size', 'less than or equal to 8'],
  [
    'a third topology',
    { tensorParallel: { topology: 'Ring' } },
    'spec.tensorParallel.topology',
    'supported values: "PodPerRank", "SinglePod"',
  ],
  [
    'an unknown interconnect',
    { tensorParallel: { interconnect: 'NVLink' } },
    'spec.tensorParallel.interconnect',
    'supported values: "Required", "Preferred", "Any"',
  ],
  ['an unknown type', { engine: { dtype: 'fp8' } }, 'spec.engine.dtype', 'supported values'],
  [
    'an unknown quantization',
    { engine: { quantization: 'awq' } },
    'spec.engine.quantization',
    'supported values: "none", "int8", "fp8"',
  ],
  [
    'fewer tokens than sequences',
    { engine: { maxSequences: 64, maxBatchedTokens: 32 } },
    'spec.engine',
    'maxBatchedTokens must be at least maxSequences',
  ],
  [
    'more sequences than the tokens of a step by default',
    { engine: { maxSequences: 1024 } },
    'spec.engine',
    'maxBatchedTokens must be at least maxSequences',
  ],
  [
    'a cache by fraction and bytes',
    { engine: { kvCache: { fraction: 0.5, bytes: '1Gi' } } },
    'spec.engine.kvCache',
    'fraction or bytes, not both',
  ],
  [
    'all memory as cache',
    { engine: { kvCache: { fraction: 1 } } },
    'spec.engine.kvCache.fraction',
    'from 0.01 to 0.95',
  ],
  [
    'a cache of an unknown type',
    { engine: { kvCache: { dtype: 'e5m2' } } },
    'spec.engine.kvCache.dtype',
    'supported values: "auto", "fp8"',
  ],
  [
    'a cache of 0 bytes',
    { engine: { kvCache: { bytes: '0Gi' } } },
    'spec.engine.kvCache.bytes',
    'more than 0',
  ],
  ['a cache of -1 bytes', { engine: { kvCache: { bytes: -1 } } }, 'spec.engine.kvCache.bytes', 'more than 0'],
  [
    'a cache of lots',
    { engine: { kvCache: { bytes: 'lots' } } },
    'spec.engine.kvCache.bytes',
    'should match',
  ],
  ['65 images', { engine: { limits: { maxImages: 65 } } }, 'spec.engine.limits.maxImages', '64'],
  ['no router', { router: { replicas: 0 } }, 'spec.router.replicas', 'greater than or equal to 1'],
  ['a wait of no time', { router: { queue: { maxWait: '0s' } } }, 'spec.router.queue.maxWait', 'more than 0'],
  [
    'a wait without a unit',
    { router: { queue: { maxWait: '60' } } },
    'spec.router.queue.maxWait',
    'should match',
  ],
  ['a wait of days', { router: { queue: { maxWait: '48h' } } }, 'spec.router.queue.maxWait', 'at most 1h'],
  [
    'one port twice',
    { router: { service: { grpcPort: 9090, metricsPort: 9090 } } },
    'spec.router.service',
    'metricsPort must differ',
  ],
  ['a port of 0', { router: { service: { grpcPort: 0 } } }, 'spec.router.service.grpcPort', 'equal to 1'],
  [
    'an external name',
    { router: { service: { type: 'ExternalName' } } },
    'spec.router.service.type',
    'supported',
  ],
  ['a drain of 2h', { rollout: { drainTimeout: '2h' } }, 'spec.rollout.drainTimeout', 'at most 1h'],
  ['a drain of no time', { rollout: { drainTimeout: '0s' } }, 'spec.rollout.drainTimeout', 'more than 0'],
  [
    'a deadline of two days',
    { rollout: { progressDeadline: '48h' } },
    'spec.rollout.progressDeadline',
    '24h',
  ],
  [
    'an unknown strategy',
    { rollout: { strategy: 'BlueGreen' } },
    'spec.rollout.strategy',
    'supported values',
  ],
  ['restarts below 0', { rollout: { maxGroupRestarts: -1 } }, 'spec.rollout.maxGroupRestarts', 'equal to 0'],
  ['no device in device', { device: {} }, 'spec.device', 'exactly one of resourceName'],
  [
    'two kinds of device',
    { device: { resourceName: 'nvidia.com/gpu', deviceClassName: 'gpu.nvidia.com' } },
    'spec.device',
    'exactly one of resourceName',
  ],
  [
    'a device without a domain',
    { device: { resourceName: 'gpu' } },
    'spec.device.resourceName',
    'should match',
  ],
  [
    'a request beyond its limit',
    { resources: { requests: { cpu: 2 }, limits: { cpu: '1500m' } } },
    'spec.resources',
    'must not exceed the limit',
  ],
  [
    'a wrong quantity',
    { resources: { limits: { memory: '8GB' } } },
    'spec.resources.limits.memory',
    'should match',
  ],
  [
    'Exists with a value',
    { tolerations: [{ key: 'a', operator: 'Exists', value: 'b' }] },
    'spec.tolerations[0]',
    'Exists takes no value',
  ],
  [
    'a toleration of nothing',
    { tolerations: [{ effect: 'NoExecute' }] },
    'spec.tolerations[0]',
    'needs operator Exists',
  ],
  [
    'seconds without NoExecute',
    { tolerations: [{ key: 'a', operator: 'Exists', tolerationSeconds: 3 }] },
    'spec.tolerations[0]',
    'needs effect NoExecute',
  ],
  [
    'In without values',
    required([{ matchExpressions: [{ key: 'zone', operator: 'In' }] }]),
    'matchExpressions[0]',
    'need values',
  ],
  [
    'Gt with a word',
    required([{ matchExpressions: [{ key: 'zone', operator: 'Gt', values: ['many'] }] }]),
    'matchExpressions[0]',
    'one whole number',
  ],
  ['no term', required([]), 'nodeSelectorTerms', 'at least 1'],
  [
    "a label of the operator's",
    { podTemplate: { labels: { 'internvl.dev/group': 'x' } } },
    'spec.podTemplate.labels',
    "the operator's own",
  ],
  [
    'a label name with a space',
    { podTemplate: { labels: { 'a b': 'x' } } },
    'spec.podTemplate.labels',
    'at most 63',
  ],
  [
    "a variable of the operator's",
    { podTemplate: { env: [{ name: 'NCCL_HOSTID', value: 'x' }] } },
    'spec.podTemplate.env[0].name',
    'set by the operator',
  ],
  [
    'one variable twice',
    {
      podTemplate: {
        env: [
          { name: 'A', value: '1' },
          { name: 'A', value: '2' },
        ],
      },
    },
    'spec.podTemplate.env[1]',
    'Duplicate value',
  ],
  ['an image with a space', { image: 'a b' }, 'spec.image', 'should match'],
  ['an unknown pull policy', { imagePullPolicy: 'Sometimes' }, 'spec.imagePullPolicy', 'supported values'],
  [
    'one pull secret twice',
    { imagePullSecrets: [{ name: 'a' }, { name: 'a' }] },
    'spec.imagePullSecrets[1]',
    'Duplicate value',
  ],
];

const GOOD: readonly (readonly [what: string, spec: Spec, name?: string])[] = [
  ['a model alone', {}],
  ['a name of 253 characters', {}, longest],
  ['a name with dots', {}, 'a.b.c'],
  ['no replica', { replicas: 0 }],
  [
    'a model of the hub',
    source('hf://OpenGVLab/InternVL-Chat-V1-2-Plus', { revision: 'main', secretRef: { name: 'hub' } }),
  ],
  ['a model of the hub at a commit', source('hf://OpenGVLab/InternVL-Chat-V1-2@4f1b2c3')],
  ['a bucket', source('s3://my.bucket-1/models/x')],
  ['an image of a registry with a port', source('oci://registry.example:5000/models/x:v1')],
  ['an image by digest', source(`oci://registry.example/models/x@sha256:${'0'.repeat(64)}`)],
  ['a whole claim', source('pvc://checkpoints')],
  ['a directory of every node', source('file:///srv/models/..hidden')],
  ...[1, 2, 4, 8].map(
    (size) => [`size ${size}`, { tensorParallel: { size, topology: 'SinglePod' } }] as const,
  ),
  ['a device plugin', { device: { resourceName: 'nvidia.com/gpu' }, tensorParallel: { size: 8 } }],
  [
    'a device class',
    { device: { deviceClassName: 'gpu.nvidia.com' }, tensorParallel: { interconnect: 'Required' } },
  ],
  ['an fp8 cache', { engine: { kvCache: { dtype: 'fp8' } } }],
  ['a cache of the usual type in bytes', { engine: { kvCache: { dtype: 'auto', bytes: '1Gi' } } }],
  ['a cache in bytes', { engine: { kvCache: { bytes: '1.5Gi' } } }],
  ['a cache as number', { engine: { kvCache: { bytes: 1073741824 } } }],
  [
    'resources',
    { resources: { requests: { cpu: '500m', memory: '8Gi' }, limits: { cpu: 1, memory: '8Gi' } } },
  ],
  ['durations of parts', { rollout: { drainTimeout: '1m30s500ms', progressDeadline: '24h' } }],
  [
    'everything of a pod',
    {
      ...required([{ matchExpressions: [{ key: 'zone', operator: 'In', values: ['a', 'b'] }] }]),
      nodeSelector: { 'node.kubernetes.io/instance-type': 'a100' },
      tolerations: [{ operator: 'Exists' }],
      priorityClassName: 'serving',
      podTemplate: {
        labels: { 'team.example/name': 'vision' },
        annotations: { 'team.example/note': 'hello there' },
        env: [{ name: 'NCCL_DEBUG', value: 'INFO' }],
        runtimeClassName: 'nvidia',
      },
      image: 'registry.example/runtime:1',
      imagePullPolicy: 'IfNotPresent',
      imagePullSecrets: [{ name: 'a' }, { name: 'b' }],
    },
  ],
];

const EXAMPLES = ['internvl-40b.yaml', 'internvl-40b-dra.yaml', 'demo-cluster.yaml'];

describe('the API server', () => {
  let cluster: ControlPlane;
  let namespace: string;
  const apply = (object: unknown) =>
    cluster.kubectl(['-n', namespace, 'apply', '--dry-run=server', '-f', '-'], JSON.stringify(object));

  beforeAll(async () => {
    cluster = await controlPlane();
    const made = await cluster.kubectl(['apply', '--server-side', '-f', CRD]);
    expect(made.stderr).toBe('');
    await cluster.kubectl(['wait', '--for=condition=Established', '-f', CRD, '--timeout=60s']);
    namespace = await cluster.namespace();
  });

  it.each(BAD)('refuses %s', async (_, spec, field, rule) => {
    const { code, stderr } = await apply(manifest(spec));
    expect(code).not.toBe(0);
    expect(stderr).toContain(field);
    expect(stderr).toContain(rule);
  });

  it.each(GOOD.map(([what, spec, name]) => ({ what, spec, name })))('takes $what', async ({ spec, name }) => {
    expect(await apply(manifest(spec, name))).toMatchObject({ code: 0, stderr: '' });
  });

  it.each(EXAMPLES)('takes examples/%s', async (file) => {
    const text = readFileSync(new URL(`../../examples/${file}`, import.meta.url), 'utf8');
    const own = parseAllDocuments(text)
      .map((document) => document.toJS() as { kind: string; metadata: Record<string, unknown> })
      .find(({ kind }) => kind === 'InternVLDeployment');
    const object = { ...own, metadata: { ...own?.metadata, namespace } };
    expect(await apply(object)).toMatchObject({ code: 0, stderr: '' });
  });
});
