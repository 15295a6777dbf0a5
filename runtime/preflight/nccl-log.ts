// Which paths NCCL chose, read from what it logs with NCCL_DEBUG=INFO while ranks connect:
//
//   node:131:190 [0] NCCL INFO Channel 00/0 : 0[0] -> 1[1] via P2P/CUMEM/read
//   node:131:190 [0] NCCL INFO Channel 00 : 0[0] -> 1[1] via SHM/direct/direct
//   node:131:190 [0] NCCL INFO Channel 00/0 : 1[1] -> 0[0] [receive] via NET/Socket/0
//
// The numbers in brackets are devices, decimal or, in old releases, bus ids.

import { slowest } from './path.ts';

export interface NcclConnection {
  readonly channel: number;
  readonly from: number;
  readonly to: number;
  /** All of what stands after `via`, without what NCCL appends about the communicator. */
  readonly path: string;
}

const CONNECTION =
  /NCCL INFO Channel (\d{1,4})(?:\/\d{1,4})? ?: (\d{1,5})\[[0-9a-f]{1,16}\] -> (\d{1,5})\[[0-9a-f]{1,16}\] (?:\[(?:send|receive)\] )?via ((?:P2P|SHM|NET|COLLNET)\/\S+(?: pointer\S*)?)/;

/** The connections of a log; other lines are passed over. */
export function parseNcclLog(log: string): NcclConnection[] {
  const connections: NcclConnection[] = [];
  for (const line of log.split('\n')) {
    const [, channel, from, to, path] = CONNECTION.exec(line) ?? [];
    if (channel === undefined || path === undefined) continue;
    connections.push({ channel: Number(channel), from: Number(from), to: Number(to), path });
  }
  return connections;
}

/** By peer, the slowest path that `rank` takes to or from it; empty for itself and for those it has no connection with. */
export function pathsOf(connections: readonly NcclConnection[], rank: number, worldSize: number): string[] {
  const byPeer: string[][] = Array.from({ length: worldSize }, () => []);
  for (const { from, to, path } of connections) {
    if (from !== rank && to !== rank) continue;
    byPeer[from === rank ? to : from]?.push(path);
  }
  return byPeer.map((paths, peer) => (peer === rank ? '' : (slowest(paths) ?? '')));
}
