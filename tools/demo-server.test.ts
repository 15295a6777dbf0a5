import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { adjustManifest } from './demo-server.ts';

const manifest = (source: string) =>
  `kind: InternVLDeployment\nspec: { model: { source: '${source}' }, replicas: 2 }\n`;

describe('adjustManifest', () => {
  it.each([
    ['file:demo-model', {}, 'file:/examples/demo-model'],
    ['file:///models/demo', {}, 'file:/models/demo'],
    ['file:/models/demo', {}, 'file:/models/demo'],
    ['file:demo-model', { model: '/other' }, 'file:/other'],
  ])('makes the model of %s with %j %s', (source, options, expected) => {
    expect(parse(adjustManifest(manifest(source), '/examples', options))).toEqual({
      kind: 'InternVLDeployment',
      spec: { model: { source: expected }, replicas: 2 },
    });
  });

  it('sets the tensor-parallel size and keeps what stands beside it', () => {
    const text = "spec: { model: { source: 'file:m' }, tensorParallel: { size: 2, topology: SinglePod } }";
    expect(parse(adjustManifest(text, '/', { tensorParallelSize: 4 }))).toMatchObject({
      spec: { tensorParallel: { size: 4, topology: 'SinglePod' } },
    });
  });
});
