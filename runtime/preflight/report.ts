// What a preflight found, put together on rank 0: the one object that the log, the metrics, the router's report and the command line show. Pure.

import { checkGates } from './gates.ts';
import type { GateResult } from './gate.ts';
import { busGigabytesPerSecond, gigabytesPerSecond } from './measurement.ts';
import type { Backend, Measured } from './measurement.ts';
import { kindOf, slowest } from './path.ts';
import type { RankFacts } from './rank-facts.ts';

export interface PairReport {
  readonly first: number;
  readonly second: number;
  /** Empty where the two do not exchange directly. */
  readonly path: string;
  /** Each way, both ways at once. */
  readonly gigabytesPerSecond: number;
  readonly latencyUs: number;
}

export interface ReduceReport {
  readonly bytes: number;
  readonly us: number;
  readonly busGigabytesPerSecond: number;
}

export interface PreflightReport {
  readonly worldSize: number;
  readonly backend: Backend;
  /** The slowest between two ranks. */
  readonly path: string;
  /** Every rank reaches the memory of every other's device. */
  readonly direct: boolean;
  /** Ways that devices have and the ranks could not take, and why. */
  readonly leftOut: string;
  /** GPUs that the ranks are granted, each counted once a rank. */
  readonly gpus: number;
  readonly gates: readonly GateResult[];
  readonly pairs: readonly PairReport[];
  readonly allReduce: readonly ReduceReport[];
}

/** What one rank brought; facts are undefined where it sent none. */
export interface RankWord {
  readonly facts: RankFacts | undefined;
  readonly backend: Backend;
  readonly paths: readonly string[];
}

/** `ranks`: by rank. `own`: what rank 0 measured. */
export function reportOf(ranks: readonly RankWord[], own: Measured): PreflightReport {
  const worldSize = ranks.length;
  const facts = ranks.flatMap((rank) => rank.facts ?? []);
  const { measurement } = own;
  const pathOf = (first: number, second: number): string =>
    slowest(
      [ranks[first]?.paths[second] ?? '', ranks[second]?.paths[first] ?? ''].filter((path) => path !== ''),
    ) ?? '';
  const pairs = measurement.pairs.map(({ first, second, bytes, ns, latencyNs }) => ({
    first,
    second,
    path: pathOf(first, second),
    gigabytesPerSecond: gigabytesPerSecond(bytes, ns),
    latencyUs: latencyNs / 1000,
  }));
  const path = slowest(ranks.flatMap(({ paths }) => paths.filter((each) => each !== ''))) ?? '';
  return {
    worldSize,
    // One rank that computes on a CPU holds up all others.
    backend: ranks.every(({ backend }) => backend === 'cuda') ? 'cuda' : 'cpu',
    path,
    direct: kindOf(path) === 'direct',
    leftOut: own.leftOut,
    gpus: facts.reduce((sum, { gpus }) => sum + gpus.length, 0),
    gates: facts.length === worldSize ? checkGates(facts) : [],
    pairs,
    allReduce: measurement.reduces.map((reduce) => ({
      bytes: reduce.bytes,
      us: reduce.ns / 1000,
      busGigabytesPerSecond: busGigabytesPerSecond(reduce, worldSize),
    })),
  };
}

/** The gates that are shut; none where the direct path was taken all the same. */
export function failedGates({ gates, backend, direct }: PreflightReport): readonly GateResult[] {
  return backend === 'cuda' && direct ? [] : gates.filter(({ outcome }) => outcome === 'fail');
}

/** A failed gate in words: what there is, and what to change. */
export function sentenceOf({ found, change }: GateResult): string {
  return `${found}; ${change}`;
}

/** What keeps the ranks from reaching each other directly, one sentence each; none where nothing does, or where there is no GPU to reach. */
export function problemsOf(report: PreflightReport): string[] {
  const failed = failedGates(report).map((gate) => `${gate.gate}: ${sentenceOf(gate)}`);
  const detour = detourOf(report);
  return detour === undefined ? failed : [detour];
}

/** Why devices that nothing found keeps from each other exchange over a detour, as far as they know it; undefined where that is not so. */
export function detourOf(report: PreflightReport): string | undefined {
  const { backend, direct, path, leftOut } = report;
  if (backend === 'cpu' || direct || failedGates(report).length > 0) return undefined;
  const why = leftOut === '' ? '' : `${leftOut}; `;
  return `every gate is open, and yet ranks exchange over ${path}: ${why}see what NCCL logs with NCCL_DEBUG=INFO`;
}
