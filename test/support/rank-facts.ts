// Facts of ranks for tests: a group of pods that is as it should be, and others that differ in one thing.

import type { Gpu, RankFacts } from '../../runtime/preflight/rank-facts.ts';

export function gpu(minor: number): Gpu {
  const busId = `0000:${(0x18 + 8 * minor).toString(16)}:00.0`;
  return { minor, busId, uuid: `GPU-0000000${minor}-1111-2222-3333-444444444444` };
}

/** Rank `rank` of pods that share one claim, as the operator makes them. */
export function podFacts(rank: number, worldSize: number, more: Partial<RankFacts> = {}): RankFacts {
  return {
    hostName: `demo-0-${rank}`,
    bootId: 'boot-a',
    networkNamespace: `net:[400${rank}]`,
    pidNamespace: `pid:[500${rank}]`,
    shmDevice: '0:25',
    shmBytes: 64 * 2 ** 30,
    tmpDirectory: '0:25/1',
    gpus: Array.from({ length: worldSize }, (_, minor) => gpu(minor)),
    driverVersion: '570.86.15',
    imexChannels: [],
    ...more,
    settings: {
      NCCL_HOSTID: 'demo-0-node-a',
      NCCL_IPC_USE_ABSTRACT_SOCKET: '0',
      CUDA_DEVICE_ORDER: 'PCI_BUS_ID',
      CUDA_VISIBLE_DEVICES: String(rank),
      ...more.settings,
    },
  };
}

/** A whole group; `change` of the last rank alone. */
export function podGroup(worldSize: number, change: Partial<RankFacts> = {}): RankFacts[] {
  return Array.from({ length: worldSize }, (_, rank) =>
    podFacts(rank, worldSize, rank === worldSize - 1 ? change : {}),
  );
}

/** The same change of each rank. */
export function changedAll(group: readonly RankFacts[], change: Partial<RankFacts>): RankFacts[] {
  return group.map((facts) => ({ ...facts, ...change, settings: { ...facts.settings, ...change.settings } }));
}

/** Facts without a variable that the operator sets. */
export function without(facts: RankFacts, setting: string): RankFacts {
  const settings = Object.fromEntries(Object.entries(facts.settings).filter(([name]) => name !== setting));
  return { ...facts, settings };
}

/** What differs in one rank, which gate that shuts, and what its sentences say. */
export const ONE_GATE_SHUT: readonly [
  gate: string,
  change: Partial<RankFacts>,
  found: RegExp,
  advice: RegExp,
][] = [
  [
    'SameHost',
    { settings: { NCCL_HOSTID: 'other' } },
    /rank 0: demo-0-node-a; rank 1: other/,
    /set NCCL_HOSTID/,
  ],
  [
    'SameSharedMemory',
    { shmDevice: '0:77' },
    /rank 0: device 0:25; rank 1: device 0:77/,
    /mount one \/dev\/shm/,
  ],
  ['SharedMemorySize', { shmBytes: 8 * 2 ** 20 }, /holds 8 MiB, 2 ranks need 37 MiB/, /raise the sizeLimit/],
  [
    'OwnDevice',
    { settings: { CUDA_VISIBLE_DEVICES: '0' } },
    /ranks 0, 1 compute on one device: GPU 0/,
    /CUDA_VISIBLE_DEVICES/,
  ],
  [
    'DevicesGranted',
    { gpus: [gpu(1)], settings: { CUDA_VISIBLE_DEVICES: '0' } },
    /rank 1 is granted GPU 1 and not GPU 0/,
    /deviceClassName/,
  ],
  ['HandlePath', { tmpDirectory: '0:99/2' }, /rank 0: 0:25\/1; rank 1: 0:99\/2/, /mount one directory/],
  ['FabricChannel', { imexChannels: [0] }, /without an IMEX channel.*: 0/, /ComputeDomain/],
  [
    'PeerToPeerAllowed',
    { settings: { NCCL_P2P_LEVEL: 'LOC' } },
    /rank 1 has NCCL_P2P_LEVEL=LOC/,
    /NCCL_P2P_LEVEL out/,
  ],
  [
    'SameSettings',
    { settings: { NCCL_NET: 'Socket' } },
    /NCCL_NET differs: rank 0: none; rank 1: Socket/,
    /NCCL_NET/,
  ],
  ['SameDriver', { driverVersion: '550.54.15' }, /rank 1: 550\.54\.15/, /one driver version/],
];
