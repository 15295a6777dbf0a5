import { describe, expect, it } from 'vitest';
import { modelDirectory } from './model-directory.ts';

describe('modelDirectory', () => {
  it.each([
    ['file:///models/a', '/models/a'],
    ['file:/models/a', '/models/a'],
    ['file:demo-model', '/project/examples/demo-model'],
    ['file:../a', '/project/a'],
    ['file:./a b', '/project/examples/a b'],
  ])('%s is %s', (source, directory) => {
    expect(modelDirectory(source, '/project/examples/demo.yaml')).toBe(directory);
  });

  it.each(['hf://owner/name', 'pvc://claim/x', 's3://bucket', 'oci://image', 'file://host/path', 'file:'])(
    'refuses %s',
    (source) => {
      expect(() => modelDirectory(source, 'demo.yaml')).toThrow(
        /running locally needs a directory of this machine/,
      );
    },
  );
});
