import { describe, expect, it } from 'vitest';
import { ManifestError } from './manifest-error.ts';
import { parseManifest } from './manifest.ts';

const HEAD = 'apiVersion: internvl.dev/v1alpha1\nkind: InternVLDeployment\nmetadata: {name: demo}\n';

function problems(text: string): readonly string[] {
  try {
    parseManifest(text, 'demo.yaml');
  } catch (error) {
    if (error instanceof ManifestError) return error.problems;
    throw error;
  }
  return [];
}

const spec = (yaml: string) => `${HEAD}spec:\n  model: {source: 'file:demo-model'}\n${yaml}`;

describe('parseManifest', () => {
  it('applies the defaults of the CRD', () => {
    const { spec: parsed } = parseManifest(spec(''), 'demo.yaml');
    expect(parsed).toMatchObject({
      replicas: 1,
      tensorParallel: { size: 1, topology: 'PodPerRank', interconnect: 'Preferred' },
      engine: {
        dtype: 'auto',
        maxSequences: 64,
        maxBatchedTokens: 512,
        limits: { maxImages: 4, maxImageBytes: '20Mi' },
      },
      router: { replicas: 1, queue: { maxRequests: 1000, maxBytes: '256Mi', maxWait: '60s' } },
      rollout: { strategy: 'Auto', maxGroupRestarts: 10 },
    });
  });

  it.each([
    ['a number', '  engine: {kvCache: {bytes: 1048576}}'],
    ['a quantity', '  engine: {kvCache: {bytes: 8Gi}}'],
    ['a fraction', '  engine: {kvCache: {fraction: 0.5}}'],
    ['an fp8 cache', '  engine: {kvCache: {fraction: 0.5, dtype: fp8}}'],
    ['a device', '  device: {resourceName: nvidia.com/gpu}'],
    ['a toleration', '  tolerations: [{key: gpu, operator: Exists}]'],
    ['resources', '  resources: {limits: {memory: 8Gi, cpu: 2}}'],
  ])('takes %s', (_, yaml) => expect(problems(spec(yaml))).toEqual([]));

  it.each([
    [
      'an unknown field',
      '  replica: 2',
      /^demo\.yaml:6:\d+: spec\.replica: unknown field; allowed here: .*replicas/,
    ],
    [
      'a nested unknown field',
      '  engine: {dtyp: float32}',
      /spec\.engine\.dtyp: unknown field; allowed here: dtype, kvCache/,
    ],
    ['a wrong type', '  replicas: two', /^demo\.yaml:6:13: spec\.replicas: found "two"; must be an integer$/],
    [
      'a size that cannot be',
      '  tensorParallel: {size: 3}',
      /tensorParallel\.size: found 3; allowed: 1, 2, 4, 8/,
    ],
    ['a value below the least', '  replicas: -1', /spec\.replicas: found -1; must be >= 0/],
    ['a wrong enum', '  engine: {dtype: fp8}', /found "fp8"; allowed: "auto", "float32", "bfloat16"/],
    [
      'an unknown cache',
      '  engine: {kvCache: {dtype: int8}}',
      /kvCache\.dtype: found "int8"; allowed: "auto", "fp8"/,
    ],
    ['a wrong quantity', '  engine: {kvCache: {bytes: lots}}', /kvCache\.bytes: found "lots"; must match/],
    [
      'a quantity of a wrong type',
      '  engine: {kvCache: {bytes: []}}',
      /kvCache\.bytes: found \[\]; must be a number or a quantity/,
    ],
    [
      'fraction and bytes',
      '  engine: {kvCache: {bytes: 1Gi, fraction: 0.5}}',
      /found fraction and bytes; give one/,
    ],
    ['a wrong duration', '  router: {queue: {maxWait: soon}}', /maxWait: found "soon"; must match/],
    ['a list for an object', '  engine: []', /spec\.engine: found \[\]; must be an object/],
  ])('refuses %s', (_, yaml, expected) => {
    const found = problems(spec(yaml));
    expect(found).toHaveLength(1);
    expect(found[0]).toMatch(expected);
  });

  it('tells everything that is wrong at once', () => {
    expect(problems(spec('  replicas: two\n  enginee: {}\n  tensorParallel: {size: 5}'))).toHaveLength(3);
  });

  it.each([
    ['no model', `${HEAD}spec: {}`, /spec\.model: is missing/],
    ['no spec', HEAD, /: spec: is missing/],
    [
      'another scheme',
      `${HEAD}spec: {model: {source: 'http://x'}}`,
      /model\.source: found "http:\/\/x"; must match/,
    ],
    [
      'another kind',
      `${HEAD.replace('InternVLDeployment', 'Pod')}spec: {model: {source: 'file:x'}}`,
      /kind: found "Pod"; must be "InternVLDeployment"/,
    ],
    [
      'a bad name',
      `${HEAD.replace('demo', 'De_mo')}spec: {model: {source: 'file:x'}}`,
      /metadata\.name: found "De_mo"; must match/,
    ],
    ['a list', '- a', /found \["a"\]; it must be an InternVLDeployment object/],
    ['nothing', '', /is empty/],
    ['two documents', `${HEAD}---\n${HEAD}`, /holds 2 documents/],
    ['no YAML', 'a: [', /^demo\.yaml:\d+:\d+: not YAML/],
    ['a doubled key', `${HEAD}kind: Pod\nspec: {}`, /not YAML: Map keys must be unique/],
  ])('refuses %s', (_, text, expected) => {
    expect(problems(text).join('\n')).toMatch(expected);
  });
});
