// The gates of the devices: which a rank computes on, which it was granted, and what NCCL was told to do with them. Pure.

import { fail, listed, notApplicable, pass, rankNames, ranksBy } from './gate.ts';
import type { Finding, Gate } from './gate.ts';
import type { Gpu, RankFacts } from './rank-facts.ts';

/** The device that a rank computes on: its first visible one; undefined where it has none or names what is not there. */
export function ownGpu({ gpus, settings }: RankFacts): Gpu | undefined {
  const [first] = (settings['CUDA_VISIBLE_DEVICES'] ?? '0').split(',').map((name) => name.trim());
  if (first === undefined || first === '') return undefined;
  if (/^\d+$/.test(first)) return gpus[Number(first)];
  return first.startsWith('GPU-') ? gpus.find(({ uuid }) => uuid.startsWith(first)) : undefined;
}

function nameOf({ bootId }: RankFacts, { minor }: Gpu): string {
  return `${bootId} ${minor}`;
}

function ownDevice(group: readonly RankFacts[]): Finding {
  const owners = ranksBy(group, (facts) => {
    const own = ownGpu(facts);
    return own === undefined ? '' : nameOf(facts, own);
  });
  const without = owners.get('') ?? [];
  const [rank] = without;
  if (rank !== undefined) {
    const { gpus, settings } = group[rank]!;
    const visible = settings['CUDA_VISIBLE_DEVICES'];
    const asks =
      visible === undefined ? 'CUDA_VISIBLE_DEVICES is not set' : `CUDA_VISIBLE_DEVICES is '${visible}'`;
    return fail(
      `${rankNames(without)} computes on no device: ${asks} and ${gpus.length} are granted`,
      'let CUDA_VISIBLE_DEVICES name one of the devices that the rank is granted, counted from 0 by PCI bus',
    );
  }
  for (const ranks of owners.values())
    if (ranks.length > 1)
      return fail(
        `${rankNames(ranks)} compute on one device: GPU ${ownGpu(group[ranks[0]!]!)?.minor}`,
        "set CUDA_VISIBLE_DEVICES to the rank's number and CUDA_DEVICE_ORDER=PCI_BUS_ID",
      );
  return pass(`${group.length} ranks compute on ${owners.size} devices`);
}

/** To map a peer's memory a container needs the peer's device node, whether or not it computes on it. */
function devicesGranted(group: readonly RankFacts[]): Finding {
  for (const ranks of ranksBy(group, (facts) => facts.bootId).values()) {
    const members = ranks.map((rank) => group[rank]!);
    const own = members.map(ownGpu);
    // Where a rank's own device cannot be told, all that any rank of the node sees are meant.
    const wanted = new Set(
      own.every((gpu) => gpu !== undefined)
        ? own.map(({ minor }) => minor)
        : members.flatMap(({ gpus }) => gpus.map(({ minor }) => minor)),
    );
    for (const [index, { gpus }] of members.entries()) {
      const granted = new Set(gpus.map(({ minor }) => minor));
      const missing = [...wanted].filter((minor) => !granted.has(minor)).toSorted((a, b) => a - b);
      if (missing.length === 0) continue;
      return fail(
        `rank ${ranks[index]} is granted ${numbers(granted)} and not ${numbers(missing)}, which its peers compute on`,
        'grant every rank all devices of the group: spec.device.deviceClassName, one claim that all ranks share; a device plugin cannot',
      );
    }
  }
  return pass('every rank is granted the devices of all ranks of its node');
}

/** Demands under which NCCL takes no direct path whatever else holds. */
function peerToPeerAllowed(group: readonly RankFacts[]): Finding {
  for (const [rank, { settings }] of group.entries()) {
    const forbids =
      settings['NCCL_P2P_DISABLE'] === '1'
        ? 'NCCL_P2P_DISABLE=1'
        : ['LOC', '0'].includes(settings['NCCL_P2P_LEVEL'] ?? '')
          ? `NCCL_P2P_LEVEL=${settings['NCCL_P2P_LEVEL']}`
          : undefined;
    if (forbids !== undefined)
      return fail(
        `rank ${rank} has ${forbids}`,
        `take ${forbids.split('=')[0]} out of spec.podTemplate.env and the image`,
      );
  }
  return pass('no setting forbids it');
}

/** Ranks that were told different things may choose different paths, and then wait for each other. */
function sameSettings(group: readonly RankFacts[]): Finding {
  const names = new Set(group.flatMap(({ settings }) => Object.keys(settings)));
  for (const name of [...names].toSorted()) {
    // Which host and which device a rank is, it must say for itself.
    if (!name.startsWith('NCCL_') || name === 'NCCL_HOSTID') continue;
    const values = ranksBy(group, ({ settings }) => settings[name] ?? '');
    if (values.size > 1)
      return fail(`${name} differs: ${listed(values)}`, `set ${name} to one value on all ranks, or on none`);
  }
  return pass('equal on all ranks');
}

function sameDriver(group: readonly RankFacts[]): Finding {
  const versions = ranksBy(group, ({ driverVersion }) => driverVersion);
  if (versions.size === 1 && versions.has('')) return notApplicable('the driver does not tell its version');
  return versions.size === 1
    ? pass(`driver ${[...versions.keys()][0]}`)
    : fail(`the drivers differ: ${listed(versions)}`, 'run one driver version on all nodes of the replica');
}

export const DEVICE_GATES = [
  { name: 'OwnDevice', check: ownDevice },
  { name: 'DevicesGranted', check: devicesGranted },
] as const satisfies readonly Gate[];

export const SETTING_GATES = [
  { name: 'PeerToPeerAllowed', check: peerToPeerAllowed },
  { name: 'SameSettings', check: sameSettings },
  { name: 'SameDriver', check: sameDriver },
] as const satisfies readonly Gate[];

function numbers(minors: Iterable<number>): string {
  const sorted = [...minors].toSorted((a, b) => a - b);
  return sorted.length === 0 ? 'no GPU' : `GPU ${sorted.join(', ')}`;
}
