import type { Interconnect } from '../../gen/proto/internvl/engine/v1/engine.ts';
import { detourOf, failedGates, sentenceOf } from './report.ts';
import type { PreflightReport } from './report.ts';

/** The part of a report that routers pass on to the operator. */
export function toWireInterconnect(report: PreflightReport): Interconnect {
  const largest = report.allReduce.at(-1);
  const shut = failedGates(report).map((gate) => ({ gate: gate.gate, message: sentenceOf(gate) }));
  const detour = detourOf(report);
  return {
    backend: report.backend,
    path: report.path,
    direct: report.direct,
    busGigabytesPerSecond: largest?.busGigabytesPerSecond ?? 0,
    reducedBytes: largest?.bytes ?? 0,
    latencyUs: report.allReduce[0]?.us ?? 0,
    // No gate, but no less what keeps them: the operator says it in its condition as it says a gate's.
    failedGates: detour === undefined ? shut : [{ gate: 'PathNotDirect', message: detour }],
  };
}
