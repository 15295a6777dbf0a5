import { beforeEach, describe, expect, it } from 'vitest';
import { KIND, LABELS } from './api.ts';
import { Caches } from './caches.ts';
import { NAMESPACED_RULES } from './rules.ts';

const owner = { apiVersion: 'internvl.dev/v1alpha1', kind: KIND, name: 'demo', uid: 'u', controller: true };
let woken: string[];
let caches: Caches;
let version: number;

beforeEach(() => {
  woken = [];
  version = 0;
  caches = new Caches({ namespaces: [], resourceClaims: false, onKey: (key) => woken.push(key) });
});

/** As a watch would: into the store, then told. Returns the keys it led to. */
function see(kind: string, metadata: Record<string, unknown>, rest: object = {}): string[] {
  const spec = caches.watches().find(({ resource }) => resource.kind === kind);
  if (spec === undefined) throw new Error(`${kind} is not watched`);
  woken = [];
  version += 1;
  const object = {
    kind,
    metadata: { namespace: 'a', resourceVersion: String(version), ...metadata },
    ...rest,
  };
  const change = spec.store.set(spec.keep?.(object) ?? object);
  if (change !== undefined) spec.onChange(change);
  return woken;
}

const node = (ready: string, unschedulable = false) => ({
  spec: { unschedulable },
  status: { conditions: [{ type: 'Ready', status: ready }], images: ['large'] },
});

describe('what a change leads to', () => {
  it('is the deployment itself', () => {
    expect(see(KIND, { name: 'demo' })).toEqual(['a/demo']);
  });

  it('is the controller of a child, also when that is taken away', () => {
    expect(see('Service', { name: 's', ownerReferences: [owner] })).toEqual(['a/demo']);
    expect(see('Service', { name: 's' })).toEqual(['a/demo']);
    expect(see('Service', { name: 's', labels: { x: 'y' } })).toEqual([]);
  });

  it('is found by its label for a router pod, whose controller is a ReplicaSet', () => {
    const name = 'n'.repeat(63);
    const [key] = see(KIND, { name });
    const instance = caches.deployments.list()[0];
    expect(key).toBe(`a/${name}`);
    expect(instance).toBeDefined();
    see(KIND, { name: 'demo' });
    const replicaSet = {
      apiVersion: 'apps/v1',
      kind: 'ReplicaSet',
      name: 'demo-router-1',
      uid: 'r',
      controller: true,
    };
    const router = { name: 'r', labels: { [LABELS.deployment]: 'demo' }, ownerReferences: [replicaSet] };
    expect(see('Pod', router)).toEqual(['a/demo']);
    expect(see('Pod', { ...router, name: 's', labels: { [LABELS.deployment]: 'other' } })).toEqual([]);
  });

  it('is every deployment with a pod on a node that comes, goes or is cordoned, and none on a heartbeat', () => {
    see('Pod', { name: 'p', ownerReferences: [owner] }, { spec: { nodeName: 'n' } });
    const name = { name: 'n', namespace: undefined };
    expect(see('Node', name, node('True'))).toEqual(['a/demo']);
    expect(see('Node', name, node('True'))).toEqual([]);
    expect(see('Node', name, node('True', true))).toEqual(['a/demo']);
    expect(see('Node', name, node('Unknown', true))).toEqual(['a/demo']);
    expect(caches.nodes.get('n')).toEqual({ ready: false, schedulable: false });
  });
});

it('watches only what the rules allow', () => {
  const allowed = NAMESPACED_RULES.filter(({ verbs }) => verbs.includes('watch')).flatMap(
    ({ resources }) => resources,
  );
  const watched = caches.watches().map(({ resource }) => resource.plural);
  expect(watched.filter((plural) => plural !== 'nodes' && !allowed.includes(plural))).toEqual([]);
});

it('keeps of a node only what groups depend on', () => {
  see('Node', { name: 'n', namespace: undefined }, node('True'));
  const spec = caches.watches().find(({ resource }) => resource.kind === 'Node');
  expect(JSON.stringify(spec?.store.list())).not.toContain('large');
});

it('keeps of a pod how it fares and where, and of a child what was asked for', () => {
  const labels = { [LABELS.rank]: '0' };
  const state = { running: { startedAt: '2026-01-01T00:00:00Z' } };
  see(
    'Pod',
    {
      name: 'p',
      labels,
      annotations: { 'internvl.dev/drain': 'since', large: 'large' },
      ownerReferences: [owner],
    },
    {
      spec: { nodeName: 'n', containers: [{ name: 'runtime', image: 'large' }] },
      status: {
        phase: 'Running',
        conditions: [{ type: 'Ready', status: 'True' }],
        containerStatuses: [{ name: 'runtime', state, image: 'large' }],
        hostIPs: ['large'],
      },
    },
  );
  const pod = caches.pods.get('a/p');
  expect(pod).toMatchObject({
    metadata: { labels, annotations: { 'internvl.dev/drain': 'since' }, ownerReferences: [owner] },
    spec: { nodeName: 'n' },
    status: {
      phase: 'Running',
      conditions: [{ type: 'Ready', status: 'True' }],
      containerStatuses: [{ name: 'runtime', state }],
    },
  });
  expect(JSON.stringify(pod)).not.toContain('large');

  see(
    'Service',
    { name: 's' },
    { apiVersion: 'v1', spec: { type: 'ClusterIP' }, status: { loadBalancer: {} } },
  );
  const service = caches.child('v1', 'Service', 'a/s');
  expect(service).toMatchObject({ spec: { type: 'ClusterIP' } });
  expect(service).not.toHaveProperty('status');
});
