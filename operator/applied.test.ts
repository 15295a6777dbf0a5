import { describe, expect, it } from 'vitest';
import { ANNOTATIONS } from './api.ts';
import { isSubset, needsApply, withAppliedHash } from './applied.ts';
import type { ChildObject } from './observed.ts';

const configMap = (data: Record<string, string>): ChildObject => ({
  apiVersion: 'v1',
  kind: 'ConfigMap',
  metadata: { name: 'demo', namespace: 'a' },
  data,
});

describe('withAppliedHash', () => {
  it('is the same for the same fields in another order', () => {
    const hash = (object: ChildObject) =>
      withAppliedHash(object).metadata.annotations?.[ANNOTATIONS.appliedHash];
    expect(hash(configMap({ a: '1', b: '2' }))).toBe(hash(configMap({ b: '2', a: '1' })));
    expect(hash(configMap({ a: '1' }))).not.toBe(hash(configMap({ a: '2' })));
  });
});

describe('needsApply', () => {
  const desired = withAppliedHash(configMap({ a: '1' }));
  it('does not for what the API server gives back', () => {
    const observed = { ...desired, metadata: { ...desired.metadata, uid: 'u', resourceVersion: '7' } };
    expect(needsApply(desired, observed)).toBe(false);
  });
  it('does when a field was taken away: the hash differs though all that is wanted is there', () => {
    const before = withAppliedHash(configMap({ a: '1', b: '2' }));
    expect(needsApply(desired, before)).toBe(true);
  });
  it('does when somebody changed a field and kept the hash', () => {
    expect(needsApply(desired, { ...desired, data: { a: '9' } })).toBe(true);
  });
});

describe('isSubset', () => {
  it.each([
    [
      'a default was added',
      { ports: [{ port: 1 }] },
      { ports: [{ port: 1, protocol: 'TCP' }], type: 'ClusterIP' },
    ],
    ['a quantity is written otherwise', { cpu: '1000m', memory: '1024Mi' }, { cpu: '1', memory: '1Gi' }],
    ['a fraction of a core', { cpu: '0.5' }, { cpu: '500m' }],
    ['a number is a string', { size: 3 }, { size: '3' }],
    ['empty fields are left out', { a: {}, b: [], c: '', d: false, e: undefined, f: 0 }, {}],
    ['an empty selector stands for all', { podSelector: {} }, { podSelector: {} }],
    [
      'others added a variable',
      { env: [{ name: 'A', value: '1' }] },
      {
        env: [
          { name: 'B', value: '2' },
          { name: 'A', value: '1' },
        ],
      },
    ],
    [
      'others own the object too',
      { ownerReferences: [{ uid: 'u' }] },
      { ownerReferences: [{ uid: 'x' }, { uid: 'u', name: 'n' }] },
    ],
  ])('holds when %s', (_name, desired, observed) => {
    expect(isSubset(desired, observed)).toBe(true);
  });

  it.each([
    ['a value differs', { a: 'x' }, { a: 'y' }],
    ['a field is gone', { a: 'x' }, {}],
    [
      'a rule was added to a Role',
      { rules: [{ verbs: ['get'] }] },
      { rules: [{ verbs: ['get'] }, { verbs: ['*'] }] },
    ],
    ['an argument was added', { args: ['--a'] }, { args: ['--a', '--b'] }],
    ['a list is wanted empty', { rules: [] }, { rules: [{ verbs: ['*'] }] }],
    ['a switch is wanted off', { immutable: false }, { immutable: true }],
    ['a count is wanted 0', { replicas: 0 }, { replicas: 2 }],
    ['a quantity differs', { memory: '1Gi' }, { memory: '1G' }],
    ['a container is gone', { containers: [{ name: 'a' }, { name: 'b' }] }, { containers: [{ name: 'a' }] }],
  ])('does not hold when %s', (_name, desired, observed) => {
    expect(isSubset(desired, observed)).toBe(false);
  });
});
