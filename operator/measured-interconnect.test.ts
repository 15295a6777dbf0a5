import type { V1Pod } from '@kubernetes/client-node';
import { describe, expect, it } from 'vitest';
import { aDeployment } from '../test/support/deployment.ts';
import type { FailureEntry } from './failures.ts';
import type { Group } from './group.ts';
import { readInterconnect, type InterconnectReport } from './interconnect-report.ts';
import {
  interconnectVerdict,
  keptInterconnects,
  slowInterconnect,
  type MeasuredGroup,
} from './measured-interconnect.ts';

const DIRECT: InterconnectReport = {
  backend: 'cuda',
  path: 'P2P/CUMEM',
  direct: true,
  busGigabytesPerSecond: 156,
  reducedBytes: 64 << 20,
  latencyMicroseconds: 21.3,
  failedGates: [],
};
const SLOW: InterconnectReport = {
  ...DIRECT,
  path: 'NET/Socket/0',
  direct: false,
  busGigabytesPerSecond: 4.2,
};
const SHUT: InterconnectReport = {
  ...SLOW,
  failedGates: [
    { gate: 'SameSharedMemory', message: '/dev/shm is not one; mount one' },
    { gate: 'HandlePath', message: 'x' },
  ],
};
const CPU: InterconnectReport = {
  ...SLOW,
  backend: 'cpu',
  path: 'TCP',
  busGigabytesPerSecond: 2.1,
  reducedBytes: 1 << 20,
};

const CLAIM = { device: { deviceClassName: 'gpu.nvidia.com' } };
const PLUGIN = { device: { resourceName: 'nvidia.com/gpu' } };
const spec = (more: object = {}, interconnect = 'Preferred') =>
  aDeployment({ tensorParallel: { size: 4, interconnect }, ...more });
const groups = (...reports: readonly InterconnectReport[]): MeasuredGroup[] =>
  reports.map((report, index) => ({ name: `demo-x-${index}`, report }));
const refused: FailureEntry = {
  failures: 1,
  releases: 0,
  kind: 'ended',
  uids: [],
  since: '',
  time: '',
  rank: 0,
  exitCode: 5,
  reason: 'Error',
  lastLines: ['the direct interconnect is required and not there: SameHost: …'],
};

describe('interconnectVerdict', () => {
  it.each<[string, object, MeasuredGroup[], string, RegExp]>([
    ['nothing measured', CLAIM, [], 'Unknown/NotMeasured', /which path they take is not measured/],
    ['the direct path', CLAIM, groups(DIRECT), 'True/Measured', /^P2P\/CUMEM, 156 GB\/s in an all-reduce of 64 MiB, 21\.3 us for one token$/], // prettier-ignore
    ['two that differ in speed', CLAIM, groups(DIRECT, { ...DIRECT, busGigabytesPerSecond: 99 }), 'True/Measured', /, 99 GB.*\(the slowest of 2 replicas\)$/], // prettier-ignore
    ['a shut gate', CLAIM, groups(DIRECT, SHUT), 'False/SameSharedMemory', /^replica demo-x-1: \/dev\/shm is not one; mount one \(shut too: HandlePath\)$/], // prettier-ignore
    ['a detour with open gates', CLAIM, groups(DIRECT, SLOW), 'False/PathNotDirect', /^replica demo-x-1: .*NET\/Socket\/0, 4\.2 GB\/s.*NCCL_DEBUG=INFO/], // prettier-ignore
    ['a device plugin that turns out to be no obstacle', PLUGIN, groups(DIRECT), 'True/Measured', /P2P/],
    ['a device plugin and CPUs', PLUGIN, groups(CPU), 'False/RanksIsolatedByDevicePlugin', /deviceClassName/],
    ['devices that nobody computes on', CLAIM, groups(CPU), 'Unknown/NotMeasured', /compute on CPUs although they are granted devices: TCP, 2\.1 GB\/s in an all-reduce of 1 MiB/], // prettier-ignore
    ['devices that nobody computes on, and a shut gate', CLAIM, groups({ ...CPU, failedGates: SHUT.failedGates }), 'False/SameSharedMemory', /mount one/], // prettier-ignore
    ['CPUs', {}, groups(CPU), 'True/NotApplicable', /over the network: TCP, 2\.1 GB\/s/],
    ['CPUs on a node with GPUs that are none of theirs', {}, groups({ ...CPU, failedGates: SHUT.failedGates }), 'True/NotApplicable', /TCP/], // prettier-ignore
    ['one rank', { ...CLAIM, tensorParallel: { size: 1 } }, [], 'True/NotApplicable', /one rank/],
  ])('of %s', (_, more, measured, verdict, message) => {
    const { status, reason, message: said } = interconnectVerdict(spec(more), measured, new Map());
    expect(`${status}/${reason}`).toBe(verdict);
    expect(said).toMatch(message);
  });

  it('says of a replica that ended because of it why, until it is up', () => {
    const remembered = new Map([
      ['demo-x-1', refused],
      ['demo-x-2', { ...refused, exitCode: 3 }],
    ]);
    expect(interconnectVerdict(spec(CLAIM, 'Required'), groups(DIRECT), remembered)).toMatchObject({
      status: 'False',
      reason: 'InterconnectRefused',
      message: expect.stringMatching(
        /^replica demo-x-1: rank 0: .*exit code 5: the direct interconnect is required/,
      ),
    });
    expect(interconnectVerdict(spec(CLAIM, 'Required'), groups(DIRECT, DIRECT), remembered)).toMatchObject({
      reason: 'Measured',
    });
  });
});

describe('slowInterconnect', () => {
  it.each<[string, string, InterconnectReport, boolean]>([
    ['a detour', 'Preferred', SLOW, true],
    ['a detour that is allowed', 'Any', SLOW, false],
    ['the direct path', 'Preferred', DIRECT, false],
    ['CPUs', 'Preferred', CPU, false],
  ])('of %s, %s', (_, interconnect, report, slow) => {
    expect(slowInterconnect(spec(CLAIM, interconnect), groups(report)) !== undefined).toBe(slow);
  });
});

describe('keptInterconnects', () => {
  const group = (uid: string, interconnect?: InterconnectReport, terminating = false) =>
    ({ name: 'g', leader: { metadata: { uid } } as V1Pod, interconnect, terminating }) as Group;
  const before = [{ name: 'g', interconnect: { ...DIRECT, pod: 'u1' } }];

  it.each<[string, Group, { name: string; interconnect?: unknown }[], unknown]>([
    ['what a router says', group('u1', SLOW), before, { ...SLOW, pod: 'u1' }],
    ['what was told before while routers say nothing', group('u1'), before, { ...DIRECT, pod: 'u1' }],
    ['nothing of an earlier attempt', group('u2'), before, undefined],
    ['nothing of one that goes', group('u1', SLOW, true), before, undefined],
    ['nothing that is none', group('u1'), [{ name: 'g', interconnect: { pod: 'u1', path: 7 } }], undefined],
    ['nothing at first', group('u1'), [], undefined],
  ])('%s', (_, now, earlier, kept) => {
    expect(keptInterconnects([now], earlier).get('g')).toEqual(kept);
  });
});

describe('readInterconnect', () => {
  it('takes no gate that could not be a reason, and cuts the rest', () => {
    const failedGates = [
      { gate: 'SameHost', message: 'x'.repeat(10_000) },
      { gate: 'not a reason', message: 'x' },
      { gate: 7, message: 'x' },
      'x',
      ...Array.from({ length: 50 }, () => ({ gate: 'HandlePath', message: '' })),
    ];
    const read = readInterconnect({ ...DIRECT, path: 'p'.repeat(500), failedGates });
    expect(read?.path).toHaveLength(64);
    expect(read?.failedGates).toHaveLength(16);
    expect(read?.failedGates.slice(0, 2).map(({ gate }) => gate)).toEqual(['SameHost', 'HandlePath']);
    expect(read?.failedGates[0]?.message).toHaveLength(512);
  });

  it.each([undefined, null, 7, [], {}, { backend: 'tpu', path: 'x' }, { backend: 'cuda' }])(
    '%j is none',
    (value) => {
      expect(readInterconnect(value)).toBeUndefined();
    },
  );

  it('has no figure that JSON or a reader could not take', () => {
    const figures = { busGigabytesPerSecond: Number.NaN, reducedBytes: '7', latencyMicroseconds: -1 };
    expect(readInterconnect({ ...DIRECT, ...figures })).toMatchObject({
      busGigabytesPerSecond: 0,
      reducedBytes: 0,
      latencyMicroseconds: 0,
    });
  });
});
