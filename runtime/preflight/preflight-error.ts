/** A preflight that came to no result: ranks are missing, differ, or were lost. Says which, and what to do. */
export class PreflightError extends Error {
  override readonly name = 'PreflightError';
  readonly code = 'preflight_failed';
}
