// The condition InterconnectVerified once groups have measured which path their ranks take. Pure.
import type { InternVLDeployment } from '../gen/crd/internvl-deployment.ts';
import { evidenceOf, type FailureEntry } from './failures.ts';
import type { Group } from './group.ts';
import { interconnectState } from './interconnect.ts';
import { readInterconnect, type InterconnectReport } from './interconnect-report.ts';
import { uidOf } from './rank-pod.ts';

/** A measurement as the status keeps it: a router that is away must not make it unknown again. */
export interface KeptInterconnect extends InterconnectReport {
  /** Uid of the rank-0 pod that measured; of another one it says nothing. */
  readonly pod: string;
}

export interface MeasuredGroup {
  readonly name: string;
  readonly report: InterconnectReport;
}

export interface InterconnectVerdict {
  readonly status: 'True' | 'False' | 'Unknown';
  readonly reason: string;
  readonly message: string;
}

/** Exit code of a rank 0 that was told to require the direct path and did not find it. */
const EXIT_INTERCONNECT = 5;

/** What is known of each group's interconnect: what a router says now, or what the status told of the same pod before. */
export function keptInterconnects(
  groups: readonly Group[],
  before: readonly { readonly name: string; readonly interconnect?: unknown }[],
): ReadonlyMap<string, KeptInterconnect> {
  const kept = new Map<string, KeptInterconnect>();
  const told = new Map(before.map(({ name, interconnect }) => [name, interconnect]));
  for (const { name, leader, interconnect, terminating } of groups) {
    if (leader === undefined || terminating) continue;
    const pod = uidOf(leader);
    const earlier = told.get(name) as { readonly pod?: unknown } | undefined;
    const report = interconnect ?? (earlier?.pod === pod ? readInterconnect(earlier) : undefined);
    if (report !== undefined) kept.set(name, { pod, ...report });
  }
  return kept;
}

/** From what was measured; where nothing was, from the spec alone. `remembered`: failures by group name. */
export function interconnectVerdict(
  deployment: InternVLDeployment,
  measured: readonly MeasuredGroup[],
  remembered: ReadonlyMap<string, FailureEntry>,
): InterconnectVerdict {
  const { status, reason, message } = interconnectState(deployment);
  const known = { status, reason, message };
  const slowest = measured.toSorted((a, b) => speed(a) - speed(b))[0];
  if (reason === 'NotApplicable')
    return slowest === undefined ? known : { ...known, message: `${message}: ${figures(slowest, measured)}` };

  const shut = measured.find(({ report }) => report.failedGates.length > 0);
  const [gate] = shut?.report.failedGates ?? [];
  if (shut !== undefined && gate !== undefined)
    return {
      status: 'False',
      reason: gate.gate,
      message: `replica ${shut.name}: ${gate.message}${more(shut)}`,
    };

  // One that has come up since, on another node perhaps, speaks for itself.
  const up = new Set(measured.map(({ name }) => name));
  for (const [name, entry] of remembered)
    if (entry.exitCode === EXIT_INTERCONNECT && !up.has(name))
      return {
        status: 'False',
        reason: 'InterconnectRefused',
        message: `replica ${name}: ${evidenceOf(entry)}`,
      };

  const onDevices = measured.filter(({ report }) => report.backend === 'cuda');
  const detour = onDevices.find(({ report }) => !report.direct);
  if (detour !== undefined)
    return {
      status: 'False',
      reason: 'PathNotDirect',
      message:
        `replica ${detour.name}: its ranks do not reach each other's devices directly: ${figures(detour, [detour])}; every gate is open, ` +
        'so see what its ranks log with NCCL_DEBUG=INFO in spec.podTemplate.env',
    };
  const slowestDevice = onDevices.toSorted((a, b) => speed(a) - speed(b))[0];
  if (slowestDevice !== undefined)
    return { status: 'True', reason: 'Measured', message: figures(slowestDevice, onDevices) };

  if (slowest === undefined || status === 'False') return known;
  return {
    ...known,
    message: `the ranks compute on CPUs although they are granted devices: ${figures(slowest, measured)}; which path the devices would take is not measured`,
  };
}

/** A replica that serves over a detour that nobody asked for: what Degraded says of it. */
export function slowInterconnect(
  { spec }: InternVLDeployment,
  measured: readonly MeasuredGroup[],
): string | undefined {
  if (spec.tensorParallel.interconnect === 'Any') return undefined;
  const slow = measured.find(({ report }) => report.backend === 'cuda' && !report.direct);
  return slow === undefined
    ? undefined
    : `replica ${slow.name} is slow: ${figures(slow, [slow])}; the condition InterconnectVerified says why`;
}

function speed({ report }: MeasuredGroup): number {
  return report.busGigabytesPerSecond;
}

function more({ report }: MeasuredGroup): string {
  const others = report.failedGates.slice(1).map(({ gate }) => gate);
  return others.length === 0 ? '' : ` (shut too: ${others.join(', ')})`;
}

/** "P2P/CUMEM, 156 GB/s in an all-reduce of 64 MiB, 21 us for one token (the slowest of 2 replicas)" */
function figures({ report }: MeasuredGroup, of: readonly MeasuredGroup[]): string {
  const { path, busGigabytesPerSecond, reducedBytes, latencyMicroseconds } = report;
  const among = of.length > 1 ? ` (the slowest of ${of.length} replicas)` : '';
  const size =
    reducedBytes >= 2 ** 20
      ? `${Math.round(reducedBytes / 2 ** 20)} MiB`
      : `${Math.round(reducedBytes / 2 ** 10)} KiB`;
  return `${path}, ${busGigabytesPerSecond} GB/s in an all-reduce of ${size}, ${latencyMicroseconds} us for one token${among}`;
}
