import { problemsOf } from './report.ts';
import type { PreflightReport } from './report.ts';

/** The ranks do not reach each other as was required. Another node may offer what this one does not. */
export class InterconnectRefused extends Error {
  override readonly name = 'InterconnectRefused';
  readonly code = 'interconnect_refused';

  constructor(problems: readonly string[]) {
    super(`the direct interconnect is required and not there: ${problems.join('; ')}`);
  }
}

/** Throws InterconnectRefused where the demand is not met. */
export function assertAllowed(report: PreflightReport, demand: 'required' | 'preferred'): void {
  const problems = problemsOf(report);
  if (demand === 'required' && problems.length > 0) throw new InterconnectRefused(problems);
}
