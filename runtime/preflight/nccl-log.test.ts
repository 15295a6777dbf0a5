import { describe, expect, it } from 'vitest';
import { parseNcclLog, pathsOf } from './nccl-log.ts';
import { kindOf, slowest } from './path.ts';

/** As NCCL 2.18 to 2.28 and, last, 2.12 write them. */
const LINES: readonly [line: string, from: number, to: number, path: string, kind: string][] = [
  ['demo-0-0:131:190 [0] NCCL INFO Channel 00/0 : 0[0] -> 1[1] via P2P/CUMEM', 0, 1, 'P2P/CUMEM', 'direct'],
  [
    'demo-0-0:131:190 [0] NCCL INFO Channel 14/0 : 0[0] -> 1[1] via P2P/CUMEM/read',
    0,
    1,
    'P2P/CUMEM/read',
    'direct',
  ],
  ['node:2:7 [1] NCCL INFO Channel 00/0 : 1[1] -> 0[0] via P2P/IPC', 1, 0, 'P2P/IPC', 'direct'],
  ['node:2:7 [1] NCCL INFO Channel 00/0 : 1[1] -> 0[0] via P2P/MNNVL', 1, 0, 'P2P/MNNVL', 'direct'],
  [
    'node:2:7 [0] NCCL INFO Channel 02/0 : 0[0] -> 1[1] via P2P/direct pointer/read',
    0,
    1,
    'P2P/direct pointer/read',
    'direct',
  ],
  [
    'node:2:7 [0] NCCL INFO Channel 02/0 : 0[0] -> 3[3] via P2P/indirect/1[1]',
    0,
    3,
    'P2P/indirect/1[1]',
    'direct',
  ],
  [
    'node:2:7 [0] NCCL INFO Channel 00 : 0[0] -> 1[1] via SHM/direct/direct',
    0,
    1,
    'SHM/direct/direct',
    'host',
  ],
  ['node:2:7 [0] NCCL INFO Channel 01 : 0[0] -> 1[1] via SHM/CE/direct', 0, 1, 'SHM/CE/direct', 'host'],
  [
    'a:1:2 [0] NCCL INFO Channel 00/0 : 1[0] -> 0[0] [receive] via NET/Socket/0',
    1,
    0,
    'NET/Socket/0',
    'network',
  ],
  [
    'a:1:2 [0] NCCL INFO Channel 00/0 : 0[0] -> 1[0] [send] via NET/Socket/0',
    0,
    1,
    'NET/Socket/0',
    'network',
  ],
  [
    'a:1:2 [7] NCCL INFO Channel 03/0 : 47[7] -> 39[7] [receive] via NET/IBext_v8/2',
    47,
    39,
    'NET/IBext_v8/2',
    'network',
  ],
  [
    'a:1:2 [0] NCCL INFO Channel 07/0 : 0[0] -> 2[0] [receive] via NET/IB/3/GDRDMA',
    0,
    2,
    'NET/IB/3/GDRDMA',
    'network',
  ],
  [
    '10-9:12:13 [1] NCCL INFO Channel 01 : 2[c7000] -> 1[8d000] [receive] via NET/IB/5/GDRDMA',
    2,
    1,
    'NET/IB/5/GDRDMA',
    'network',
  ],
];

describe('parseNcclLog', () => {
  it.each(LINES)('%s', (line, from, to, path, kind) => {
    expect(parseNcclLog(line)).toEqual([{ channel: expect.any(Number), from, to, path }]);
    expect(kindOf(path)).toBe(kind);
  });

  it('passes over everything else', () => {
    const log = [
      'demo-0-0:131:190 [0] NCCL INFO Bootstrap : Using eth0:10.0.0.4<0>',
      'demo-0-0:131:190 [0] NCCL INFO NCCL_HOSTID set by environment to demo-0-node-a',
      'demo-0-0:131:190 [0] NCCL INFO Channel 00/02 :    0   1',
      'demo-0-0:131:190 [0] NCCL INFO Trees [0] 1/-1/-1->0->-1 [1] -1/-1/-1->0->1',
      'demo-0-0:131:190 [0] NCCL INFO Connected all rings',
      'Channel 00/0 : 0[0] -> 1[1] via P2P/CUMEM',
      '',
    ];
    expect(parseNcclLog(log.join('\n'))).toEqual([]);
  });
});

describe('pathsOf', () => {
  it('takes the slowest of a peer’s channels, either way, and knows who is no neighbour', () => {
    const log = LINES.slice(0, 1)
      .map(([line]) => line)
      .concat(
        'n:1:2 [0] NCCL INFO Channel 01/0 : 1[1] -> 0[0] via SHM/direct/direct',
        'n:1:2 [0] NCCL INFO Channel 00/0 : 0[0] -> 2[2] via P2P/IPC',
        'n:1:2 [2] NCCL INFO Channel 00/0 : 2[2] -> 3[3] [send] via NET/Socket/0',
        'n:1:2 [0] NCCL INFO Channel 00/0 : 0[0] -> 9[9] via P2P/IPC',
      )
      .join('\n');
    expect(pathsOf(parseNcclLog(log), 0, 4)).toEqual(['', 'SHM/direct/direct', 'P2P/IPC', '']);
  });
});

describe('slowest', () => {
  it.each([
    [[], undefined],
    [['P2P/IPC', 'P2P/CUMEM'], 'P2P/IPC'],
    [['P2P/IPC', 'NET/Socket/0', 'SHM/direct/direct'], 'NET/Socket/0'],
    [['TCP', 'what is this'], 'what is this'],
  ])('of %j', (paths, worst) => {
    expect(slowest(paths)).toBe(worst);
  });
});
