import { describe, expect, it } from 'vitest';
import { deviceTransport } from './transport.ts';

const LOG = [
  'node-a:1:2 [0] NCCL INFO Channel 00/0 : 0[0] -> 1[1] via SHM/direct/direct',
  'node-a:1:2 [0] NCCL INFO Channel 00/0 : 1[1] -> 0[0] via P2P/CUMEM',
].join('\n');

describe('deviceTransport', () => {
  it.each<[string, string, string | undefined, string[]]>([
    ['what NCCL wrote that it takes', 'NCCL', LOG, ['', 'SHM/direct/direct']],
    [
      'the same of large messages beside memory of their own',
      'peer memory + NCCL',
      LOG,
      ['', 'SHM/direct/direct'],
    ],
    ['NCCL, where it wrote nothing', 'NCCL', undefined, ['', 'NCCL']],
    ['NCCL, where its log names no path', 'NCCL', 'NCCL INFO Bootstrap', ['', 'NCCL']],
    ['direct where ranks open each other’s memory', 'peer memory', undefined, ['', 'P2P/peer memory']],
    ['the network by way of the hosts', 'host (TCP)', LOG, ['', 'TCP']],
  ])('names %s', (_, path, log, expected) => {
    const transport = deviceTransport({ path, leftOut: '', graphs: true }, () => log);
    expect(transport.backend).toBe('cuda');
    expect(transport.paths(0, 2)).toEqual(expected);
  });
});
