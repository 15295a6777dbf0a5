import type { Interconnect } from '../../gen/proto/internvl/engine/v1/engine.ts';
import { failedGates, sentenceOf } from './report.ts';
import type { PreflightReport } from './report.ts';

/** The part of a report that routers pass on to the operator. */
export function toWireInterconnect(report: PreflightReport): Interconnect {
  const largest = report.allReduce.at(-1);
  return {
    backend: report.backend,
    path: report.path,
    direct: report.direct,
    busGigabytesPerSecond: largest?.busGigabytesPerSecond ?? 0,
    reducedBytes: largest?.bytes ?? 0,
    latencyUs: report.allReduce[0]?.us ?? 0,
    failedGates: failedGates(report).map((gate) => ({ gate: gate.gate, message: sentenceOf(gate) })),
  };
}
