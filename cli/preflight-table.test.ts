import { describe, expect, it } from 'vitest';
import { reportOf, type PreflightReport } from '../runtime/preflight/report.ts';
import { changedAll, podGroup } from '../test/support/rank-facts.ts';
import { formatPreflight } from './preflight-table.ts';

const plain = (_: string, text: string) => text;

function report(facts = podGroup(2), path = 'TCP', backend: 'cpu' | 'cuda' = 'cpu'): PreflightReport {
  const words = facts.map((own, rank) => ({
    facts: own,
    backend,
    paths: rank === 0 ? ['', path] : [path, ''],
  }));
  const pairs = [{ first: 0, second: 1, bytes: 4_000_000, ns: 1_000_000, latencyNs: 8_230 }];
  const reduces = [
    { bytes: 14_336, ns: 11_000 },
    { bytes: 1 << 20, ns: 4_930_000 },
  ];
  return reportOf(words, { backend, paths: [], leftOut: '', measurement: { pairs, reduces } });
}

describe('formatPreflight', () => {
  it('says in one line that no gate applies', () => {
    expect(formatPreflight(report(changedAll(podGroup(2), { gpus: [] })), plain, false).split('\n')).toEqual([
      '2 ranks on CPUs, slowest path TCP',
      '',
      'gates: not applicable, no rank sees a GPU',
      '',
      'ranks\tpath\teach way\tlatency',
      '0 and 1\tTCP\t4.00 GB/s\t8.23 us',
      '',
      'all-reduce\ttakes\teach link carries',
      '14 KiB (one token)\t11.0 us\t1.30 GB/s',
      '1 MiB\t4.93 ms\t0.213 GB/s',
      '',
      'ranks without GPUs exchange over TCP: nothing to change',
      '',
    ]);
  });

  it('puts what to change under the gate that is shut', () => {
    const lines = formatPreflight(report(podGroup(2, { shmDevice: '0:77' })), plain, true).split('\n');
    const shut = lines.findIndex((line) => /^SameSharedMemory +SHUT +\/dev\/shm is not one/.test(line));
    expect(lines[shut + 1]).toMatch(/^ {2}change: mount one \/dev\/shm/);
    expect(lines.at(-2)).toBe('1 gate is shut: devices do not reach each other directly');
    expect(lines.find((line) => line.startsWith('SameHost'))).toMatch(/^SameHost +open +demo-0-node-a$/);
  });

  it.each<[string, PreflightReport, RegExp]>([
    ['the direct path', report(podGroup(2), 'P2P/CUMEM', 'cuda'), /devices of all others directly\n$/],
    [
      'a detour',
      report(podGroup(2), 'SHM/direct/direct', 'cuda'),
      /exchange over SHM\/direct\/direct: see .*\n$/,
    ],
    ['GPUs that are not computed on', report(), /compute on CPUs exchange over TCP\n$/],
  ])('ends with a word on %s', (_, found, last) => {
    expect(formatPreflight(found, plain, false)).toMatch(last);
  });
});
