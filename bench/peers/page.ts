// The page bench/PEERS.md.
import type { PageSection } from '../page-sections.ts';
import { peerTable, type PeerRow } from './rows.ts';

/** A peer that was not measured, and why. */
export interface Missing {
  readonly peer: string;
  readonly reason: string;
}

/** What comparing ours with its peers gave. */
export interface Comparison {
  /** How the figures came to be. */
  readonly about: string;
  readonly rows: readonly PeerRow[];
  readonly missing: readonly Missing[];
  readonly versions: Readonly<Record<string, string>>;
}

export interface PeerMachine {
  readonly cpu: string;
  readonly isa: string;
  readonly cores: number;
  readonly threads: number;
  /** Bytes per second. */
  readonly readBandwidth: number;
  /** One minute's load average before and after: more than the cores means that others were at work. */
  readonly load: readonly [number, number];
}

/** Above the sections. */
export const PEERS_HEAD = `# Beside others

A ratio above 1 means that ours is better. Rounds of ours and each peer in turn; figures are medians, "at best" is the ratio of each one's best pass.`;

/** command: what measured it. */
export function peerSection(
  title: string,
  command: string,
  machine: PeerMachine,
  { about, rows, missing, versions }: Comparison,
): PageSection {
  const [before, after] = machine.load;
  const named = Object.entries(versions).map(([name, version]) => `${name} ${version}`);
  const busy =
    before > machine.cores / 2
      ? `**Others were at work on this machine (load average ${before.toFixed(1)} on ${machine.cores} cores before the start): threads that wait for each other by spinning, as those of PyTorch and llama.cpp do, suffer most from that, so ratios of ours flatter; a share above 100 % means that the limit was taken at a busier time. Measure again on a machine at rest.**`
      : undefined;
  const parts = [
    `\`${command}\` on ${machine.cpu}, ${machine.isa}, ${machine.cores} cores, ${machine.threads} threads, read bandwidth
${(machine.readBandwidth / 1e9).toFixed(1)} GB/s at the start (all cores, the best of some ways to read), load average ${before.toFixed(1)} before and ${after.toFixed(1)} after. Versions: ${named.join(', ')}.`,
    busy,
    about,
    peerTable(rows),
    missing.length === 0
      ? 'Not measured: nothing, every peer ran.'
      : `Not measured:\n\n${missing.map(({ peer, reason }) => `- ${peer}: ${reason}`).join('\n')}`,
  ];
  return { title, body: parts.filter((part) => part !== undefined).join('\n\n') };
}
