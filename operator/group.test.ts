import { describe, expect, it } from 'vitest';
import type { V1Pod } from '@kubernetes/client-node';
import { plain, routerPod } from '../test/support/simulated-cluster.ts';
import { ANNOTATIONS, LABELS, ROUTER_ACKNOWLEDGED } from './api.ts';
import { classify, type Group } from './group.ts';
import { NOTHING_OBSERVED, type Observed, type ObservedNode, type ReplicaReport } from './observed.ts';

const NOW = Date.UTC(2026, 0, 1);
const ago = (ms: number): string => new Date(NOW - ms).toISOString();
const UP = { ready: true, schedulable: true };
const down = (ms: number) =>
  ['n1', { ready: false, schedulable: true, notReadySince: NOW - ms }] satisfies [string, ObservedNode];

interface Parts {
  readonly rank?: number;
  /** '' = none. */
  readonly node?: string;
  readonly up?: boolean;
  readonly gate?: 'True' | 'False';
  readonly drain?: string;
  readonly deleted?: boolean;
  readonly state?: object;
  readonly age?: number;
  /** How long it has had its place. */
  readonly placed?: number;
}

function aPod({
  rank = 0,
  node = 'n1',
  up = true,
  gate,
  drain,
  deleted,
  state,
  age = 3_600_000,
  placed = age,
}: Parts = {}): V1Pod {
  const conditions = [
    node === ''
      ? { type: 'PodScheduled', status: 'False', reason: 'Unschedulable', message: '0/2 nodes' }
      : { type: 'PodScheduled', status: 'True', lastTransitionTime: ago(placed) },
    { type: 'ContainersReady', status: up ? 'True' : 'False', lastTransitionTime: ago(age) },
    ...(gate ? [{ type: ROUTER_ACKNOWLEDGED, status: gate, lastProbeTime: ago(age) }] : []),
  ];
  return {
    metadata: {
      name: `demo-aaaaaaaa-0-${rank}`,
      uid: `uid-${rank}`,
      creationTimestamp: ago(age),
      labels: {
        [LABELS.group]: 'demo-aaaaaaaa-0',
        [LABELS.revision]: 'aaaaaaaa',
        [LABELS.replica]: '0',
        [LABELS.rank]: String(rank),
      },
      ...(drain && { annotations: { [ANNOTATIONS.drain]: drain } }),
      ...(deleted && { deletionTimestamp: ago(0) }),
    },
    spec: { containers: [], ...(node !== '' && { nodeName: node }) },
    status: {
      phase: node === '' ? 'Pending' : 'Running',
      conditions,
      containerStatuses: [
        { name: `rank-${rank}`, state: state ?? (up ? { running: { startedAt: ago(age) } } : {}) },
      ],
    },
  } as unknown as V1Pod;
}

function classified(pods: readonly V1Pod[], parts: Partial<Observed> = {}, avoids = false): Group {
  const observed = { ...NOTHING_OBSERVED, nodes: new Map([['n1', UP]]), pods, ...parts };
  const [group] = classify({
    observed,
    podsOf: () => 2,
    placementTimeoutMs: 30_000,
    avoidsNodes: () => avoids,
    nodeLostTimeoutMs: 10_000,
    drainTimeoutMs: 20_000,
    now: NOW,
  });
  if (group === undefined) throw new Error('no group');
  return group;
}

const says = (
  state: ReplicaReport['state'] | undefined,
  more: Partial<ReplicaReport> = {},
  router = 'router-a',
) => ({
  router,
  routerUid: `uid-${router}`,
  replicas:
    state === undefined ? {} : { 'demo-aaaaaaaa-0': { podUid: 'uid-0', state, message: '', ...more } },
});
const routers = (...reports: ReturnType<typeof says>[]): Partial<Observed> => ({
  routerPods: reports.map(({ router }) => routerPod(router)),
  reports,
});
const both = (leader: Parts = {}, other: Parts = {}) => [aPod(leader), aPod({ ...other, rank: 1 })];

describe('the readiness gate', () => {
  it.each([
    [
      'turns True once any live router says ready',
      {},
      routers(says('probing'), says('ready', {}, 'router-b')),
      'True',
    ],
    ['stays when it is True already', { gate: 'True' }, routers(says('ready')), undefined],
    [
      'turns False when live routers report and none says ready',
      { gate: 'True' },
      routers(says('ejected')),
      'False',
    ],
    [
      'turns False when a live router does not know the pod',
      { gate: 'True' },
      routers(says(undefined)),
      'False',
    ],
    ['is not written before anybody has acknowledged', {}, routers(says('probing')), undefined],
    ['stays when no router is there', { gate: 'True' }, {}, undefined],
    [
      'hears nothing about an older pod of the same name',
      {},
      routers(says('ready', { podUid: 'uid-old' })),
      undefined,
    ],
    [
      'hears nothing from a router that is not ready',
      {},
      {
        ...routers(says('ready')),
        routerPods: [{ ...plain(routerPod('router-a')), status: { phase: 'Running' } }],
      },
      undefined,
    ],
    [
      'hears nothing from an older router of the same name',
      {},
      { ...routers(says('ready')), reports: [{ ...says('ready'), routerUid: 'uid-old' }] },
      undefined,
    ],
    [
      'stays while the group drains',
      { gate: 'True', drain: ago(1_000) },
      routers(says('drained')),
      undefined,
    ],
  ] as const)('%s', (_, leader, parts, expected) => {
    expect(classified(both(leader), parts).gate?.status).toBe(expected);
  });

  it('keeps since when the group has served', () => {
    expect(classified(both({ gate: 'True', age: 5_000 }), routers(says('ejected'))).gate).toMatchObject({
      lastProbeTime: ago(5_000),
    });
  });
});

describe('a drain', () => {
  const since = ago(5_000);
  it.each([
    ['is over when all routers say so', routers(says('drained', { drain: since })), since, true],
    [
      'is not over while one has work',
      routers(says('drained', { drain: since }), says('draining', { drain: since }, 'router-b')),
      since,
      false,
    ],
    [
      'is not over by a word about an earlier drain',
      routers(says('drained', { drain: ago(90_000) })),
      since,
      false,
    ],
    ['is not over while a router has not noticed', routers(says('ready')), since, false],
    ['is over when no router knows the pod', routers(says(undefined)), since, true],
    [
      'is given a moment to be noticed by a router that says nothing',
      routers(says(undefined)),
      ago(500),
      false,
    ],
    ['is over where there is no router', {}, since, true],
    ['is over at the deadline whatever is said', routers(says('draining')), ago(20_000), true],
    [
      'waits for a router that is leaving and has work',
      {
        ...routers(says('draining')),
        routerPods: [
          {
            ...plain(routerPod('router-a')),
            metadata: { ...plain(routerPod('router-a').metadata), deletionTimestamp: ago(0) },
          } as unknown as V1Pod,
        ],
      },
      since,
      false,
    ],
  ] as const)('%s', (_, parts, drain, drained) => {
    expect(classified(both({ gate: 'True', drain }), parts).drained).toBe(drained);
  });

  it.each(['nonsense', new Date(NOW + 3_600_000).toISOString()])('since %s is as good as none', (drain) => {
    expect(classified(both({ drain })).drainSince).toBeUndefined();
  });

  it.each([
    ['one that serves', both({ gate: 'True' }), {}, true],
    ['one that never got ready', both({ up: false }, { up: false }), {}, false],
    ['one that a router may use though its gate lags', both({ up: false }), routers(says('ready')), true],
  ] as const)('is needed by %s: %#', (_, pods, parts, needed) =>
    expect(classified(pods, parts).needsDrain).toBe(needed),
  );
});

const UNMADE = {
  unmade: new Map([['demo-aaaaaaaa-0', { since: NOW, message: 'exceeded quota: few', refused: true }]]),
};

describe('a group fails', () => {
  const ended = { terminated: { exitCode: 1, reason: 'Error', finishedAt: ago(10) } };
  it.each([
    ['when a rank ends', both({}, { state: ended }), {}, 'ended'],
    ['when a pod is being deleted', both({}, { deleted: true }), {}, 'deleted'],
    ['when a pod of one that ran is gone', [aPod()], {}, 'deleted'],
    ['not while its creation is under way', [aPod({ up: false, age: 1_000 })], {}, undefined],
    ['not when its first rank runs before the next can be made', [aPod({ age: 1_000 })], UNMADE, undefined],
    ['when the next can never be made', [aPod({ age: 31_000 })], UNMADE, 'unplaced'],
    [
      'when only a part of it finds a place',
      both({ up: false, age: 31_000 }, { node: '', up: false, age: 31_000 }),
      {},
      'unplaced',
    ],
    [
      'not when its first rank has only just found a place, however long it waited before',
      both({ up: false, age: 90_000, placed: 1_000 }, { node: '', up: false, age: 90_000 }),
      {},
      undefined,
    ],
    [
      'not before the timeout',
      both({ up: false, age: 29_000 }, { node: '', up: false, age: 29_000 }),
      {},
      undefined,
    ],
    [
      'not when none of it has a place: it waits',
      both({ node: '', up: false }, { node: '', up: false }),
      {},
      undefined,
    ],
    [
      'when its node has not been ready for long enough',
      both(),
      { nodes: new Map<string, ObservedNode>([down(10_000), ['n2', UP]]) },
      'nodeLost',
    ],
    [
      'not when its node has only just been heard of no more',
      both(),
      { nodes: new Map<string, ObservedNode>([down(9_000), ['n2', UP]]) },
      undefined,
    ],
    [
      'not when no node is ready: it is the API server that was away',
      both(),
      { nodes: new Map<string, ObservedNode>([down(60_000), ['n2', { ready: false, schedulable: true }]]) },
      undefined,
    ],
    ['when its node is gone', both(), { nodes: new Map([['n2', UP]]) }, 'nodeLost'],
    [
      'not when its node is too young to be known',
      both({ age: 5_000 }, { age: 5_000 }),
      { nodes: new Map([['n2', UP]]) },
      undefined,
    ],
    ['not when nothing is known of nodes', both(), { nodes: new Map() }, undefined],
    [
      'not when a router has its work done by it though its node seems lost',
      both({ gate: 'True' }),
      { nodes: new Map<string, ObservedNode>([down(60_000), ['n2', UP]]), ...routers(says('ready')) },
      undefined,
    ],
  ] as const)('%s', (_, pods, parts, kind) => expect(classified(pods, parts).failure?.kind).toBe(kind));

  it('when it keeps away from a node and finds no place elsewhere, so that the next attempt may go there', () => {
    const nowhere = [{ node: '', up: false, age: 31_000 }] as const;
    const pods = both(nowhere[0], nowhere[0]);
    expect(classified(pods, {}, true).failure).toMatchObject({ kind: 'unplaced', reason: 'NoOtherPlace' });
    expect(classified(pods).failure).toBeUndefined();
  });

  it('no more once all its pods are being deleted', () => {
    const group = classified(both({ deleted: true, state: ended }, { deleted: true }));
    expect(group).toMatchObject({ phase: 'Terminating', failure: undefined });
  });
});

describe('the phase', () => {
  it.each([
    ['Scheduling', both({ node: '', up: false }, { node: '', up: false }), {}],
    ['Starting', both({ up: false }, { up: false }), {}],
    [
      'Loading',
      both(
        { up: false, state: { running: { startedAt: ago(1) } } },
        { up: false, state: { running: { startedAt: ago(1) } } },
      ),
      {},
    ],
    ['Acknowledging', both(), routers(says('probing'))],
    ['Ready', both({ gate: 'True' }), {}],
    ['Draining', both({ gate: 'True', drain: ago(1) }), {}],
  ] as const)('is %s', (phase, pods, parts) => expect(classified(pods, parts).phase).toBe(phase));
});
