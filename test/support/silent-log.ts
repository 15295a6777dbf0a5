import type { Log } from '../../operator/kube/log.ts';

/** Of helpers of tests whose complaints nobody reads: what they lead to is asserted. */
export const SILENT: Log = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
};
