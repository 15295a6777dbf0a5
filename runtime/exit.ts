// How a rank process ends: which code, and that it ends at all.

import { setTimeout as delay } from 'node:timers/promises';

/** Retrying the same way cannot help: flags, checkpoint, or a group that does not fit together. */
export const EXIT_CONFIGURATION = 2;
/** A peer, the collective or the engine thread is lost: a restart of the group helps. */
export const EXIT_LOST = 3;
export const EXIT_PORT_IN_USE = 4;
/** The ranks do not reach each other as was required. */
export const EXIT_INTERCONNECT = 5;
/** The device that was asked for is not there, or it failed. */
export const EXIT_DEVICE = 6;
export const EXIT_OTHER = 1;

const CODES: Readonly<Record<string, number>> = {
  ConfigError: EXIT_CONFIGURATION,
  AddressError: EXIT_CONFIGURATION,
  BindError: EXIT_CONFIGURATION,
  CheckpointError: EXIT_CONFIGURATION,
  TokenizerError: EXIT_CONFIGURATION,
  PartitionError: EXIT_CONFIGURATION,
  KvCacheError: EXIT_CONFIGURATION,
  ModelLengthError: EXIT_CONFIGURATION,
  NativeUnavailable: EXIT_CONFIGURATION,
  SimulationError: EXIT_CONFIGURATION,
  GroupMismatch: EXIT_CONFIGURATION,
  GroupLost: EXIT_LOST,
  CollectiveError: EXIT_LOST,
  PlanMismatch: EXIT_LOST,
  EngineStalled: EXIT_LOST,
  PortInUse: EXIT_PORT_IN_USE,
  InterconnectRefused: EXIT_INTERCONNECT,
  DeviceError: EXIT_DEVICE,
  OutOfMemory: EXIT_CONFIGURATION,
};

/** The exit code for what a process dies of; errors are told apart by name, since some come from another thread. */
export function exitCodeOf(error: Error): number {
  return CODES[error.name] ?? EXIT_OTHER;
}

/** The step loop made no progress for too long while there was work. */
export class EngineStalled extends Error {
  override readonly name = 'EngineStalled';
  readonly code = 'engine_stalled';

  constructor(stalledMs: number) {
    super(`the engine made no progress for ${Math.round(stalledMs)} ms while it had work`);
  }
}

/**
 * Ends the process now. process.exit waits for worker threads, and one that is stuck inside native code never ends: the process image is
 * then replaced by one that does nothing but exit, which takes every thread down.
 */
export function exitNow(code: number, threadsEnded: boolean): never {
  if (!threadsEnded && process.execve) {
    process.execve(process.execPath, [process.execPath, '-e', `process.exit(${code})`], {});
  }
  process.exit(code);
}

/** Whether the promise settles within ms. */
export async function settlesWithin(promise: Promise<unknown>, ms: number): Promise<boolean> {
  const stop = new AbortController();
  const settled = promise.then(
    () => true,
    () => true,
  );
  const timeout = delay(ms, false, { signal: stop.signal }).catch(() => false);
  const result = await Promise.race([settled, timeout]);
  stop.abort();
  return result;
}
