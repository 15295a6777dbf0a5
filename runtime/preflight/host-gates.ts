// The gates of the place that ranks share: host, shared memory, a way to pass handles. Pure.

import { fail, listed, notApplicable, pass, ranksBy } from './gate.ts';
import type { Finding, Gate } from './gate.ts';
import type { RankFacts } from './rank-facts.ts';

/** What NCCL takes from /dev/shm for one connection, both ways; the container default of 64 MiB is enough for two ranks and not for four. */
const SHM_BYTES_PER_CONNECTION = 2 * 9_637_888;

/** Handles of the fabric pass between ranks that share nothing, so what they would have to share does not matter. */
function unlessFabric(check: Gate['check']): Gate['check'] {
  return (group) => {
    const finding = check(group);
    if (finding.outcome !== 'fail' || !hasFabric(group)) return finding;
    return notApplicable(`${finding.found}; every rank has an IMEX channel, whose handles do without it`);
  };
}

export function hasFabric(group: readonly RankFacts[]): boolean {
  return group.every(({ imexChannels }) => imexChannels.length > 0);
}

/** NCCL compares host name and boot id, or NCCL_HOSTID in place of both. */
function sameHost(group: readonly RankFacts[]): Finding {
  const nodes = ranksBy(group, ({ bootId }) => bootId);
  const ids = ranksBy(group, ({ settings, hostName }) => settings['NCCL_HOSTID'] ?? `host name ${hostName}`);
  if (nodes.size > 1 && ids.size === 1)
    return fail(
      `${nodes.size} nodes are taken for one: NCCL_HOSTID is ${[...ids.keys()][0]} on all ranks`,
      'let NCCL_HOSTID name the node, as in <replica>-<node>',
    );
  if (nodes.size > 1)
    return fail(
      `the ranks are on ${nodes.size} nodes: ${listed(ranksBy(group, ({ hostName }) => hostName))}`,
      'place all ranks of the replica on one node: spec.tensorParallel.interconnect Required or Preferred, not Any',
    );
  if (ids.size > 1)
    return fail(
      `ranks of one node count as hosts of their own: ${listed(ids)}`,
      'set NCCL_HOSTID to the same value, as in <replica>-<node>, on all ranks of the node',
    );
  return pass([...ids.keys()][0] ?? '');
}

/** A tmpfs of each pod's own rules out peer-to-peer as well, not only the path over shared memory. */
function sameSharedMemory(group: readonly RankFacts[]): Finding {
  const devices = ranksBy(group, ({ bootId, shmDevice }) =>
    shmDevice === '' ? '' : `${bootId} ${shmDevice}`,
  );
  if (devices.size === 1 && !devices.has('')) return pass(`device ${group[0]?.shmDevice}`);
  return fail(
    `/dev/shm is not one: ${listed(ranksBy(group, ({ shmDevice }) => shmDevice && `device ${shmDevice}`))}`,
    "mount one /dev/shm into all ranks: the node's as a hostPath volume, or spec.tensorParallel.topology SinglePod",
  );
}

function sharedMemorySize(group: readonly RankFacts[]): Finding {
  const needed = group.length * (group.length - 1) * SHM_BYTES_PER_CONNECTION;
  const least = Math.min(...group.map(({ shmBytes }) => shmBytes));
  const found = `/dev/shm holds ${mebibytes(least)}, ${group.length} ranks need ${mebibytes(needed)}`;
  return least >= needed
    ? pass(found)
    : fail(found, `raise the sizeLimit of the volume at /dev/shm (medium Memory) to ${mebibytes(needed)}`);
}

/** File descriptors go over abstract sockets, which end at the network namespace, or over sockets in /tmp; CUDA's old handles need one PID namespace. */
function handlePath(group: readonly RankFacts[]): Finding {
  const networks = ranksBy(group, ({ networkNamespace }) => networkNamespace);
  const folders = ranksBy(group, ({ tmpDirectory }) => tmpDirectory);
  const processes = ranksBy(group, ({ pidNamespace }) => pidNamespace);
  const isSet = (name: string): readonly number[] =>
    group.flatMap(({ settings }, rank) => (settings[name] === '0' ? [rank] : []));
  if (isSet('NCCL_CUMEM_ENABLE').length > 0 && processes.size > 1)
    return fail(
      `NCCL_CUMEM_ENABLE=0 passes handles of the old sort, and the ranks are in ${processes.size} PID namespaces`,
      'take NCCL_CUMEM_ENABLE out of spec.podTemplate.env',
    );
  const overFiles = isSet('NCCL_IPC_USE_ABSTRACT_SOCKET');
  if (overFiles.length === 0)
    return networks.size === 1
      ? pass('abstract sockets in one network namespace')
      : fail(
          `abstract sockets do not leave a network namespace, and the ranks are in ${networks.size}`,
          'set NCCL_IPC_USE_ABSTRACT_SOCKET=0 on all ranks and mount one directory at their /tmp',
        );
  if (overFiles.length < group.length)
    return fail(
      `NCCL_IPC_USE_ABSTRACT_SOCKET is 0 on ${overFiles.length} of ${group.length} ranks`,
      'set NCCL_IPC_USE_ABSTRACT_SOCKET=0 on all ranks, or on none',
    );
  return folders.size === 1
    ? pass('sockets in one /tmp')
    : fail(
        `the ranks pass handles over sockets in /tmp, and it is not one directory: ${listed(folders)}`,
        'mount one directory at the /tmp of all ranks',
      );
}

function fabricChannel(group: readonly RankFacts[]): Finding {
  const without = group.flatMap(({ imexChannels }, rank) => (imexChannels.length === 0 ? [rank] : []));
  if (without.length === group.length)
    return notApplicable('no rank has an IMEX channel, and none needs one on one node');
  if (without.length === 0) return pass('every rank has an IMEX channel');
  return fail(
    `ranks without an IMEX channel, which others have: ${without.join(', ')}`,
    'give all ranks of the replica one ComputeDomain claim, or none of them',
  );
}

function mebibytes(bytes: number): string {
  return `${Math.ceil(bytes / 2 ** 20)} MiB`;
}

export const HOST_GATES = [
  { name: 'SameHost', check: unlessFabric(sameHost) },
  { name: 'SameSharedMemory', check: unlessFabric(sameSharedMemory) },
  { name: 'SharedMemorySize', check: sharedMemorySize },
] as const satisfies readonly Gate[];

export const HANDLE_GATES = [
  { name: 'HandlePath', check: unlessFabric(handlePath) },
  { name: 'FabricChannel', check: fabricChannel },
] as const satisfies readonly Gate[];
