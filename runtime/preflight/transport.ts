// What moves bytes between ranks, as far as a preflight has to know of it.

import { readFileSync } from 'node:fs';
import type { CollectiveWays, Native } from '../native/index.ts';
import { measure } from './measure.ts';
import { SCHEDULES } from './measurement.ts';
import type { Backend, Extent, Measured } from './measurement.ts';
import { parseNcclLog, pathsOf } from './nccl-log.ts';
import { TCP } from './path.ts';

export interface Transport {
  readonly backend: Backend;
  /** Which path this rank takes to each other, by rank; empty for itself. Asked after the links were used, when all of them exist. */
  paths(rank: number, worldSize: number): string[];
  /** See Measured. */
  readonly leftOut: string;
}

/** The addon's own links: one TCP connection for each pair of ranks. */
export const CPU_TRANSPORT: Transport = {
  backend: 'cpu',
  paths: (rank, worldSize) => Array.from({ length: worldSize }, (_, peer) => (peer === rank ? '' : TCP)),
  leftOut: '',
};

/**
 * Devices, by the ways that their ranks agreed on. What NCCL chose stands in its log: with NCCL_DEBUG=INFO in the file of NCCL_DEBUG_FILE, by whose text `ncclLog` is asked
 * for; undefined where there is none.
 */
export function deviceTransport(
  { path, leftOut }: CollectiveWays,
  ncclLog: () => string | undefined,
): Transport {
  const all = (name: string, rank: number, worldSize: number): string[] =>
    Array.from({ length: worldSize }, (_, peer) => (peer === rank ? '' : name));
  return {
    backend: 'cuda',
    leftOut,
    paths: (rank, worldSize) => {
      const log = path.includes('NCCL') ? ncclLog() : undefined;
      const known = log === undefined ? [] : pathsOf(parseNcclLog(log), rank, worldSize);
      if (known.some((name) => name !== '')) return known;
      if (path.startsWith('peer memory')) return all('P2P/peer memory', rank, worldSize);
      return all(path.startsWith('host') ? TCP : path, rank, worldSize);
    },
  };
}

/** The text of the log that NCCL was told to write. */
export function readNcclLog(): string | undefined {
  const file = process.env['NCCL_DEBUG_FILE'];
  if (file === undefined) return undefined;
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return undefined; // NCCL was not loaded, or could not write: the path is then named without it
  }
}

/** Measures a connected group, on every rank at once; throws CollectiveError. */
export function measureLinks(
  native: Native,
  transport: Transport,
  { rank, worldSize, extent }: { readonly rank: number; readonly worldSize: number; readonly extent: Extent },
): Measured {
  const schedule = SCHEDULES[extent];
  const measurement = measure(native, { rank, worldSize, schedule, now: () => process.hrtime.bigint() });
  const { backend, leftOut } = transport;
  return { backend, paths: transport.paths(rank, worldSize), leftOut, measurement };
}
