// What is measured between the ranks, how far a preflight goes, and what figures mean.

/** quick: at every start; full: when somebody wants to know. */
export type Extent = 'quick' | 'full';

/** What one token of the published model takes in bfloat16: 7,168 values. */
export const TOKEN_BYTES = 14 * 1024;
const MEBIBYTE = 1024 * 1024;

export interface Schedule {
  /** Of all-reduces, ascending; the first is one token. */
  readonly sizes: readonly number[];
  /** Of the message between each two ranks. */
  readonly pairBytes: number;
  /** For all of it; a size of which not even one would fit is left out. */
  readonly budgetMs: number;
}

export const SCHEDULES: Readonly<Record<Extent, Schedule>> = {
  quick: { sizes: [TOKEN_BYTES, MEBIBYTE], pairBytes: MEBIBYTE, budgetMs: 250 },
  full: { sizes: [TOKEN_BYTES, MEBIBYTE, 64 * MEBIBYTE], pairBytes: 4 * MEBIBYTE, budgetMs: 2000 },
};

/** Two ranks that send each other a message, both ways at once; figures are medians. */
export interface PairTime {
  readonly first: number;
  readonly second: number;
  readonly bytes: number;
  readonly ns: number;
  /** Of a message of a few bytes. */
  readonly latencyNs: number;
}

export interface ReduceTime {
  readonly bytes: number;
  readonly ns: number;
}

export interface Measurement {
  readonly pairs: readonly PairTime[];
  readonly reduces: readonly ReduceTime[];
}

/** What one rank has after a preflight. */
export interface Measured {
  readonly backend: Backend;
  /** By peer, in the words of the backend; empty for itself and where they do not exchange directly. */
  readonly paths: readonly string[];
  /** Ways that devices have and the ranks could not take, and why, the same on every rank; empty on CPUs. */
  readonly leftOut: string;
  /** The same figures on every rank. */
  readonly measurement: Measurement;
}

export type Backend = 'cpu' | 'cuda';

/** 10^9 bytes a second. */
export function gigabytesPerSecond(bytes: number, ns: number): number {
  return ns <= 0 ? 0 : bytes / ns;
}

/**
 * What the links carry during an all-reduce, which does not depend on the number of ranks: each sends and receives 2 (N - 1) / N times the
 * bytes. The figure that nccl-tests call busbw.
 */
export function busGigabytesPerSecond({ bytes, ns }: ReduceTime, worldSize: number): number {
  return gigabytesPerSecond((bytes * 2 * (worldSize - 1)) / worldSize, ns);
}
