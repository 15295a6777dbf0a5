import { describe, expect, it } from 'vitest';
import { changedAll, gpu, ONE_GATE_SHUT, podGroup, without } from '../../test/support/rank-facts.ts';
import { checkGates, GATES } from './gates.ts';
import type { RankFacts } from './rank-facts.ts';

const byGate = (group: readonly RankFacts[]) =>
  new Map(checkGates(group).map((result) => [result.gate, result]));
const failed = (group: readonly RankFacts[]) =>
  checkGates(group)
    .filter(({ outcome }) => outcome === 'fail')
    .map(({ gate }) => gate);

describe('the gates', () => {
  it.each([2, 4, 8])('are open for %i pods as the operator makes them', (worldSize) => {
    expect(failed(podGroup(worldSize))).toEqual([]);
    const open = checkGates(podGroup(worldSize)).filter(({ outcome }) => outcome === 'pass');
    expect(open).toHaveLength(GATES.length - 1); // no IMEX channel on one node
    for (const { found, change } of open) expect([found !== '', change]).toEqual([true, '']);
  });

  it('have names that can be reasons of conditions', () => {
    for (const { name } of GATES) expect(name).toMatch(/^[A-Z][A-Za-z]{2,40}$/);
    expect(new Set(GATES.map(({ name }) => name)).size).toBe(GATES.length);
  });

  it('are each shut by something', () => {
    expect(new Set(ONE_GATE_SHUT.map(([gate]) => gate))).toEqual(new Set(GATES.map(({ name }) => name)));
  });

  it.each(ONE_GATE_SHUT)('%s alone is shut by %j', (gate, change, found, advice) => {
    const group = podGroup(2, change);
    // A setting of one rank alone is also one that differs.
    expect(failed(group).filter((name) => name !== 'SameSettings' || name === gate)).toEqual([gate]);
    const result = byGate(group).get(gate);
    expect(result?.found).toMatch(found);
    expect(result?.change).toMatch(advice);
  });

  it.each<[string, RankFacts[]]>([
    ['one rank', podGroup(1)],
    ['no GPUs', changedAll(podGroup(2), { gpus: [] })],
  ])('say nothing of %s', (_, group) => {
    expect(new Set(checkGates(group).map(({ outcome }) => outcome))).toEqual(new Set(['notApplicable']));
  });

  it('count a rank without any GPU among ranks that have some as one that lacks its device', () => {
    expect(failed(podGroup(2, { gpus: [] }))).toEqual(['OwnDevice', 'DevicesGranted']);
  });
});

describe('SameHost', () => {
  const bare = (group: readonly RankFacts[]) => group.map((facts) => without(facts, 'NCCL_HOSTID'));

  it('takes the host name where NCCL_HOSTID is not set, as NCCL does', () => {
    expect(byGate(bare(podGroup(2))).get('SameHost')).toMatchObject({
      outcome: 'fail',
      found:
        'ranks of one node count as hosts of their own: rank 0: host name demo-0-0; rank 1: host name demo-0-1',
    });
    expect(failed(bare(changedAll(podGroup(2), { hostName: 'demo-0' })))).toEqual([]);
  });

  it('tells ranks on two nodes from two nodes that are taken for one', () => {
    const apart = podGroup(2, { bootId: 'boot-b', settings: { NCCL_HOSTID: 'demo-0-node-b' } });
    expect(byGate(apart).get('SameHost')?.found).toMatch(/^the ranks are on 2 nodes/);
    const mistaken = podGroup(2, { bootId: 'boot-b' });
    expect(byGate(mistaken).get('SameHost')?.found).toMatch(/^2 nodes are taken for one/);
  });

  it('names no more than a few of many', () => {
    const many = Array.from({ length: 8 }, (_, rank) => podGroup(8)[rank]!);
    expect(byGate(bare(many)).get('SameHost')?.found).toMatch(/; and 4 more$/);
  });
});

describe('HandlePath', () => {
  const abstract = (group: readonly RankFacts[]) =>
    group.map((facts) => without(facts, 'NCCL_IPC_USE_ABSTRACT_SOCKET'));

  it.each<[string, RankFacts[], string | undefined]>([
    [
      'abstract sockets of pods',
      abstract(podGroup(2)),
      'abstract sockets do not leave a network namespace, and the ranks are in 2',
    ],
    [
      'abstract sockets of one pod',
      abstract(changedAll(podGroup(2), { networkNamespace: 'net:[1]' })),
      undefined,
    ],
    ['files of one /tmp', podGroup(2), undefined],
    [
      'a network namespace, and files of two /tmp',
      changedAll(podGroup(2, { tmpDirectory: 'x' }), { networkNamespace: 'n' }),
      'the ranks pass handles over sockets in /tmp',
    ],
    [
      'files on one rank alone',
      podGroup(2).map((facts, rank) => (rank === 0 ? without(facts, 'NCCL_IPC_USE_ABSTRACT_SOCKET') : facts)),
      'NCCL_IPC_USE_ABSTRACT_SOCKET is 0 on 1 of 2 ranks',
    ],
    [
      'old handles between pods',
      changedAll(podGroup(2), { settings: { NCCL_CUMEM_ENABLE: '0' } }),
      'NCCL_CUMEM_ENABLE=0 passes handles of the old sort',
    ],
    [
      'old handles in one PID namespace',
      changedAll(podGroup(2), { pidNamespace: 'p', settings: { NCCL_CUMEM_ENABLE: '0' } }),
      undefined,
    ],
  ])('%s', (_, group, found) => {
    const result = byGate(group).get('HandlePath');
    expect(result?.outcome).toBe(found === undefined ? 'pass' : 'fail');
    if (found !== undefined) expect(result?.found).toContain(found);
  });
});

describe('devices', () => {
  it.each<[string, Partial<RankFacts>, string[]]>([
    ['no device visible', { settings: { CUDA_VISIBLE_DEVICES: '' } }, ['OwnDevice']],
    ['a number beyond those granted', { settings: { CUDA_VISIBLE_DEVICES: '5' } }, ['OwnDevice']],
    ['its device by uuid', { settings: { CUDA_VISIBLE_DEVICES: gpu(1).uuid } }, []],
    ['its device by the beginning of a uuid', { settings: { CUDA_VISIBLE_DEVICES: 'GPU-00000001' } }, []],
    ['more granted than the group has', { gpus: [0, 1, 2, 3].map(gpu) }, []],
  ])('%s', (_, change, gates) => {
    expect(failed(podGroup(2, change))).toEqual(gates);
  });

  it('are not granted by a device plugin that gives each pod its own', () => {
    const group = podGroup(2).map((facts, rank) =>
      without({ ...facts, gpus: [gpu(rank + 3)] }, 'CUDA_VISIBLE_DEVICES'),
    );
    expect(failed(group)).toEqual(['DevicesGranted']);
    expect(byGate(group).get('DevicesGranted')?.found).toBe(
      'rank 0 is granted GPU 3 and not GPU 4, which its peers compute on',
    );
  });
});

describe('IMEX channels on all ranks', () => {
  it('make what pods would have to share a matter of the measurement', () => {
    const alone = changedAll(podGroup(2, { shmDevice: 'x', settings: { NCCL_HOSTID: 'y' } }), {
      imexChannels: [0],
    });
    expect(failed(alone)).toEqual([]);
    expect(byGate(alone).get('SameHost')).toMatchObject({ outcome: 'notApplicable' });
    expect(byGate(alone).get('FabricChannel')).toMatchObject({ outcome: 'pass' });
  });
});
