import { describe, expect, it } from 'vitest';
import { podGroup } from '../../test/support/rank-facts.ts';
import { EXIT_INTERCONNECT, exitCodeOf } from '../exit.ts';
import { assertAllowed } from './interconnect-refused.ts';
import type { Backend, Measured } from './measurement.ts';
import { failedGates, problemsOf, reportOf } from './report.ts';
import { toWireInterconnect } from './wire-report.ts';

function capture(run: () => void): Error {
  try {
    run();
  } catch (error) {
    return error as Error;
  }
  throw new Error('nothing was thrown');
}

const measured = (worldSize: number, leftOut = ''): Measured => ({
  backend: 'cpu',
  paths: [],
  leftOut,
  measurement: {
    pairs: Array.from({ length: worldSize - 1 }, (_, index) => ({
      first: 0,
      second: index + 1,
      bytes: 4_000_000,
      ns: 1_000_000,
      latencyNs: 12_500,
    })),
    reduces: [
      { bytes: 14_336, ns: 11_000 },
      { bytes: 1 << 20, ns: 500_000 },
    ],
  },
});

function report(backend: Backend, paths: readonly string[][], facts = podGroup(paths.length)) {
  const words = paths.map((own, rank) => ({ facts: facts[rank], backend, paths: own }));
  return reportOf(words, measured(paths.length));
}

const P2P = [
  ['', 'P2P/CUMEM'],
  ['P2P/CUMEM', ''],
];

describe('reportOf', () => {
  it('has what the links carry, in the units in which it is told', () => {
    const { path, direct, pairs, allReduce, gpus } = report('cuda', P2P);
    expect({ path, direct, gpus }).toEqual({ path: 'P2P/CUMEM', direct: true, gpus: 4 });
    expect(pairs).toEqual([
      { first: 0, second: 1, path: 'P2P/CUMEM', gigabytesPerSecond: 4, latencyUs: 12.5 },
    ]);
    expect(allReduce[1]).toEqual({ bytes: 1 << 20, us: 500, busGigabytesPerSecond: (1 << 20) / 500_000 });
  });

  it('believes the worse of two ranks', () => {
    const { path, direct } = report('cuda', [['', 'P2P/CUMEM'], ['SHM/direct/direct', '']]); // prettier-ignore
    expect({ path, direct }).toEqual({ path: 'SHM/direct/direct', direct: false });
  });

  it('is no report of GPUs when one rank computes on a CPU', () => {
    const words = P2P.map((paths, rank) => ({
      facts: undefined,
      backend: rank === 0 ? ('cuda' as const) : ('cpu' as const),
      paths,
    }));
    expect(reportOf(words, measured(2))).toMatchObject({ backend: 'cpu', gates: [] });
  });
});

describe('problemsOf', () => {
  const tcp = [['', 'TCP'], ['TCP', '']]; // prettier-ignore
  const shut = podGroup(2, { shmDevice: '0:77' });

  it.each<[string, Parameters<typeof report>, RegExp[]]>([
    ['ranks on CPUs without GPUs', ['cpu', tcp, podGroup(2).map((facts) => ({ ...facts, gpus: [] }))], []],
    ['ranks on CPUs with open gates', ['cpu', tcp], []],
    ['ranks on CPUs with a shut gate', ['cpu', tcp, shut], [/^SameSharedMemory: .*; mount one/]],
    ['the direct path', ['cuda', P2P], []],
    ['the direct path in spite of a shut gate', ['cuda', P2P, shut], []],
    ['a detour with a shut gate', ['cuda', [['', 'NET/Socket/0'], ['', '']], shut], [/^SameSharedMemory/]], // prettier-ignore
    ['a detour with open gates', ['cuda', [['', 'SHM/direct/direct'], ['', '']]], [/over SHM\/direct\/direct: see/]], // prettier-ignore
  ])('of %s', (_, args, expected) => {
    const problems = problemsOf(report(...args));
    expect(problems).toHaveLength(expected.length);
    for (const [index, pattern] of expected.entries()) expect(problems[index]).toMatch(pattern);
  });

  it('end a group that must have the direct path, and no other', () => {
    const detour = report('cuda', [['', 'NET/Socket/0'], ['', '']], shut); // prettier-ignore
    expect(() => assertAllowed(detour, 'preferred')).not.toThrow();
    expect(() => assertAllowed(report('cuda', P2P), 'required')).not.toThrow();
    const refused = capture(() => assertAllowed(detour, 'required'));
    expect(refused.message).toMatch(/is required and not there: SameSharedMemory: .*; mount one/);
    expect(exitCodeOf(refused)).toBe(EXIT_INTERCONNECT);
  });

  it('has why a way was not taken, where nothing else explains a detour', () => {
    const leftOut = 'peer memory: rank 1: opening the memory of rank 0: invalid argument';
    const over = (path: string, facts = podGroup(2)) =>
      reportOf(
        [0, 1].map((rank) => ({
          facts: facts[rank],
          backend: 'cuda',
          paths: rank === 0 ? ['', path] : ['', ''],
        })),
        measured(2, leftOut),
      );
    const detour = over('NET/Socket/0');
    expect(problemsOf(detour)).toEqual([
      `every gate is open, and yet ranks exchange over NET/Socket/0: ${leftOut}; see what NCCL logs with NCCL_DEBUG=INFO`,
    ]);
    expect(toWireInterconnect(detour).failedGates).toEqual([
      { gate: 'PathNotDirect', message: problemsOf(detour)[0] },
    ]);
    expect(toWireInterconnect(over('NET/Socket/0', shut)).failedGates.map(({ gate }) => gate)).toEqual([
      'SameSharedMemory',
    ]);
    expect(toWireInterconnect(over('P2P/CUMEM')).failedGates).toEqual([]);
    expect(over('P2P/CUMEM').leftOut).toBe(leftOut);
  });

  it('goes to routers with the gates that are shut', () => {
    const found = report('cpu', tcp, shut);
    expect(failedGates(found).map(({ gate }) => gate)).toEqual(['SameSharedMemory']);
    expect(toWireInterconnect(found)).toEqual({
      backend: 'cpu',
      path: 'TCP',
      direct: false,
      busGigabytesPerSecond: (1 << 20) / 500_000,
      reducedBytes: 1 << 20,
      latencyUs: 11,
      failedGates: [{ gate: 'SameSharedMemory', message: expect.stringContaining('hostPath') }],
    });
  });
});
