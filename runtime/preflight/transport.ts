// What moves bytes between ranks, as far as a preflight has to know of it.

import { readFileSync } from 'node:fs';
import type { Native } from '../native/index.ts';
import { measure } from './measure.ts';
import { SCHEDULES } from './measurement.ts';
import type { Backend, Extent, Measured } from './measurement.ts';
import { parseNcclLog, pathsOf } from './nccl-log.ts';
import { TCP } from './path.ts';

export interface Transport {
  readonly backend: Backend;
  /** Which path this rank takes to each other, by rank; empty for itself. Asked after the links were used, when all of them exist. */
  paths(rank: number, worldSize: number): string[];
}

/** The addon's own links: one TCP connection for each pair of ranks. */
export const CPU_TRANSPORT: Transport = {
  backend: 'cpu',
  paths: (rank, worldSize) => Array.from({ length: worldSize }, (_, peer) => (peer === rank ? '' : TCP)),
};

/** NCCL with NCCL_DEBUG=INFO and NCCL_DEBUG_FILE: what it chose stands in its log. */
export function ncclTransport(logFile: string): Transport {
  return {
    backend: 'cuda',
    paths: (rank, worldSize) => pathsOf(parseNcclLog(readFileSync(logFile, 'utf8')), rank, worldSize),
  };
}

/** Measures a connected group, on every rank at once; throws CollectiveError. */
export function measureLinks(
  native: Native,
  transport: Transport,
  { rank, worldSize, extent }: { readonly rank: number; readonly worldSize: number; readonly extent: Extent },
): Measured {
  const schedule = SCHEDULES[extent];
  const measurement = measure(native, { rank, worldSize, schedule, now: () => process.hrtime.bigint() });
  return { backend: transport.backend, paths: transport.paths(rank, worldSize), measurement };
}
