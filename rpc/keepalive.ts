/** A peer that says nothing for so long is asked whether it is there. */
export const KEEPALIVE_MS = 30_000;
/** For its answer. */
export const KEEPALIVE_TIMEOUT_MS = 10_000;
