import type { EngineThreadEvents } from '../engine-thread/engine-thread.ts';
import type { Joined } from '../engine-thread/messages.ts';
import type { ToWorker } from '../engine-thread/messages.ts';
import type { Extent, Measured } from '../preflight/measurement.ts';

/** What the shard protocol needs of the engine thread. */
export interface RankThread {
  readonly progress: number;
  listen(events: EngineThreadEvents): void;
  join(): Promise<Joined>;
  preflight(peerAddresses: readonly Uint8Array[], extent: Extent): Promise<Measured>;
  load(): Promise<{ readonly bytes: number }>;
  start(kvBlocks: number, peerAddresses: readonly Uint8Array[]): Promise<void>;
  plan(plan: (ToWorker & { type: 'plan' })['plan']): void;
}

/** Between two heartbeats, in milliseconds, each way. */
export const HEARTBEAT_INTERVAL_MS = 500;
