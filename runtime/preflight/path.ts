// The path between two ranks, in the words of what moves the bytes, and which of two is slower.

/** direct: the memory of one device is mapped by the other; host: bytes go through the host's memory; network: through a network stack. */
export type PathKind = 'direct' | 'host' | 'network' | 'unknown';

/** From fast to slow; of what is not known nothing good is believed. */
const SLOWNESS: readonly PathKind[] = ['direct', 'host', 'network', 'unknown'];

/** CPUs have one transport: the links of native/src/peer_links.h. */
export const TCP = 'TCP';

/** Of "P2P/CUMEM", "SHM/direct/direct", "NET/Socket/0", "TCP". */
export function kindOf(path: string): PathKind {
  if (path.startsWith('P2P/')) return 'direct';
  if (path.startsWith('SHM/')) return 'host';
  return path === TCP || path.startsWith('NET/') || path.startsWith('COLLNET/') ? 'network' : 'unknown';
}

/** The slowest of paths; undefined of none. Of equally slow ones the first. */
export function slowest(paths: Iterable<string>): string | undefined {
  let worst: string | undefined;
  for (const path of paths)
    if (worst === undefined || SLOWNESS.indexOf(kindOf(path)) > SLOWNESS.indexOf(kindOf(worst))) worst = path;
  return worst;
}
