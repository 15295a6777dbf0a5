import { describe, expect, it } from 'vitest';
import { ANNOTATIONS, LABELS } from '../operator/api.ts';
import { endpointsFromList, endpointsFromPods, type EndpointPod } from './endpoints.ts';

const LABELLED = { [LABELS.group]: 'demo-0', [LABELS.rank]: '0' };
const RUNNING: EndpointPod = {
  metadata: { uid: 'u', labels: LABELLED },
  status: { phase: 'Running', podIP: '10.0.0.1' },
};
const FOUND = { name: 'demo-0', address: '10.0.0.1:50051', uid: 'u', drain: undefined };

describe('endpointsFromPods', () => {
  it.each<[string, EndpointPod, object | undefined]>([
    ['a running pod', RUNNING, FOUND],
    [
      'one that starts and has an address',
      { ...RUNNING, status: { phase: 'Pending', podIP: '10.0.0.1' } },
      FOUND,
    ],
    [
      'an IPv6 address',
      { ...RUNNING, status: { podIP: 'fd00::1' } },
      { ...FOUND, address: '[fd00::1]:50051' },
    ],
    ['no address yet', { ...RUNNING, status: { phase: 'Pending' } }, undefined],
    ['an empty address', { ...RUNNING, status: { podIP: '' } }, undefined],
    ['no status', { metadata: RUNNING.metadata! }, undefined],
    ['a failed pod', { ...RUNNING, status: { phase: 'Failed', podIP: '10.0.0.1' } }, undefined],
    ['one that succeeded', { ...RUNNING, status: { phase: 'Succeeded', podIP: '10.0.0.1' } }, undefined],
    [
      'one that is being deleted',
      { ...RUNNING, metadata: { ...RUNNING.metadata, deletionTimestamp: '2026-01-01T00:00:00Z' } },
      undefined,
    ],
    [
      'one that drains',
      { ...RUNNING, metadata: { ...RUNNING.metadata, annotations: { [ANNOTATIONS.drain]: 'now' } } },
      { ...FOUND, drain: 'now' },
    ],
    [
      'another rank',
      { ...RUNNING, metadata: { uid: 'u', labels: { ...LABELLED, [LABELS.rank]: '1' } } },
      undefined,
    ],
    [
      'all ranks in one pod',
      { ...RUNNING, metadata: { uid: 'u', labels: { [LABELS.group]: 'demo-0' } } },
      FOUND,
    ],
    ['a pod of no group', { ...RUNNING, metadata: { uid: 'u', labels: {} } }, undefined],
    ['no uid', { ...RUNNING, metadata: { labels: LABELLED } }, undefined],
  ])('%s', (_, pod, expected) => {
    expect(endpointsFromPods([pod])).toEqual(expected === undefined ? [] : [expected]);
  });

  it('come by name, however the pods do', () => {
    const named = (name: string, uid: string): EndpointPod => ({
      metadata: { uid, labels: { [LABELS.group]: name } },
      status: { podIP: '10.0.0.1' },
    });
    const uids = endpointsFromPods([named('b', '3'), named('a', '2'), named('a', '1')]).map(({ uid }) => uid);
    expect(uids).toEqual(['1', '2', '3']);
  });
});

it('endpointsFromList tells replicas apart by name', () => {
  expect(endpointsFromList([{ name: 'a', address: 'h:1' }])).toEqual([
    { name: 'a', address: 'h:1', uid: 'a', drain: undefined },
  ]);
});
