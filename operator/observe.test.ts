import type { V1ConfigMap, V1Pod } from '@kubernetes/client-node';
import { describe, expect, it } from 'vitest';
import { aDeployment } from '../test/support/deployment.ts';
import { LABELS } from './api.ts';
import { failuresConfigMapName, routersConfigMapName } from './names.ts';
import { observe, readReports } from './observe.ts';
import type { ChildObject } from './observed.ts';

const pod = (name: string, uid: string, phase = 'Running', component = 'router'): V1Pod => ({
  metadata: { name, uid, labels: { [LABELS.component]: component } },
  status: { phase },
});
const report = (routerUid: string, replicas: object = {}): string => JSON.stringify({ routerUid, replicas });
const ready = { podUid: 'p0', state: 'ready', message: '' };

describe('readReports', () => {
  it('takes those of router pods that live, in the order of their names', () => {
    const configMap: V1ConfigMap = {
      data: { b: report('u-b'), a: report('u-a', { g: ready }), gone: report('u-c'), ended: report('u-e') },
    };
    const pods = [pod('a', 'u-a'), pod('b', 'u-b'), pod('ended', 'u-e', 'Failed')];
    expect(readReports(configMap, pods)).toEqual([
      { router: 'a', routerUid: 'u-a', replicas: { g: ready } },
      { router: 'b', routerUid: 'u-b', replicas: {} },
    ]);
  });

  it('drops that of an earlier pod of the same name', () => {
    expect(readReports({ data: { a: report('old') } }, [pod('a', 'new')])).toEqual([]);
  });

  it.each([
    ['no JSON', '{'],
    ['a list', '[]'],
    ['nothing of a router', '{"replicas":{}}'],
    ['no replicas', '{"routerUid":"u-a"}'],
  ])('counts %s as no report', (_name, text) => {
    expect(readReports({ data: { a: text } }, [pod('a', 'u-a')])).toEqual([]);
  });

  it('leaves out replicas that it cannot read', () => {
    const text = report('u-a', {
      g: ready,
      h: { ...ready, state: 'dancing' },
      i: 'ready',
      j: { state: 'ready' },
    });
    expect(readReports({ data: { a: text } }, [pod('a', 'u-a')])[0]?.replicas).toEqual({ g: ready });
  });
});

describe('observe', () => {
  it('tells the kinds of ConfigMaps apart and sorts pods by name', () => {
    const configMap = (name: string, component = 'runtime'): ChildObject => ({
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: { name, labels: { [LABELS.component]: component } },
    });
    const children = [
      configMap('demo-1a2b3c4d', 'revision'),
      configMap(failuresConfigMapName('demo')),
      configMap(routersConfigMapName('demo')),
      { apiVersion: 'v1', kind: 'Service', metadata: { name: 'demo-router' } },
    ];
    const observed = observe(aDeployment(), {
      nodes: new Map(),
      podsOf: () => [pod('b', '2', 'Running', 'runtime'), pod('a', '1', 'Running', 'runtime')],
      podsOfInstance: () => [pod('b', '2', 'Running', 'runtime'), pod('r', '3')],
      childrenOf: () => children,
    });
    expect(observed.revisions.map(({ metadata }) => metadata?.name)).toEqual(['demo-1a2b3c4d']);
    expect(observed.failures?.metadata?.name).toBe(failuresConfigMapName('demo'));
    expect(observed.children.map(({ metadata }) => metadata.name)).toEqual([
      routersConfigMapName('demo'),
      'demo-router',
    ]);
    expect(observed.pods.map(({ metadata }) => metadata?.name)).toEqual(['a', 'b']);
    expect(observed.routerPods.map(({ metadata }) => metadata?.name)).toEqual(['r']);
  });
});
