// What a router says of its replicas to the operator: written when a state has changed, never on a request's way.

import type { EngineInfo, Interconnect } from '../gen/proto/internvl/engine/v1/engine.ts';
import type { ReplicaReport } from '../operator/observed.ts';
import { describeError, type Logger } from '../rpc/log.ts';
import type { ReplicaState } from './replica-state.ts';

/** Changes that come together are written together. */
const COALESCE_MS = 100;
const FIRST_RETRY_MS = 250;
const LONGEST_RETRY_MS = 10_000;
const MOST_MESSAGE_CHARACTERS = 512;
const MOST_PATH_CHARACTERS = 64;
const MOST_GATES = 16;

/** What is read of a replica. */
export interface ReportedReplica {
  readonly name: string;
  /** Uid of its pod. */
  readonly id: string;
  readonly state: ReplicaState;
  readonly attempts: number;
  /** Which drain it obeys; a word on `drained` counts for that one alone. */
  readonly drainName?: string | undefined;
  /** What it said of itself last. */
  readonly info?: Pick<EngineInfo, 'interconnect'> | undefined;
}

/** What the operator is told of one replica. */
export function replicaReport({
  id,
  state,
  attempts,
  drainName,
  info,
}: Omit<ReportedReplica, 'name'>): ReplicaReport {
  const message = state.message.slice(0, MOST_MESSAGE_CHARACTERS);
  const interconnect = info?.interconnect && interconnectOf(info.interconnect);
  const report = (name: ReplicaReport['state']): ReplicaReport => ({
    podUid: id,
    state: name,
    message,
    ...(drainName !== undefined && { drain: drainName }),
    ...(interconnect && { interconnect }),
  });
  if (state.cordoned || state.phase === 'draining') return report(attempts === 0 ? 'drained' : 'draining');
  return report(state.incompatible ? 'incompatible' : state.phase);
}

/** Bounded and rounded: it is written for as long as the replica lives. */
function interconnectOf(measured: Interconnect): NonNullable<ReplicaReport['interconnect']> {
  const { backend, path, direct, busGigabytesPerSecond, reducedBytes, latencyUs, failedGates } = measured;
  return {
    backend: backend === 'cuda' ? 'cuda' : 'cpu',
    path: path.slice(0, MOST_PATH_CHARACTERS),
    direct,
    busGigabytesPerSecond: Number(busGigabytesPerSecond.toPrecision(3)),
    reducedBytes,
    latencyMicroseconds: Number(latencyUs.toPrecision(3)),
    failedGates: failedGates.slice(0, MOST_GATES).map(({ gate, message }) => ({
      gate: gate.slice(0, MOST_PATH_CHARACTERS),
      message: message.slice(0, MOST_MESSAGE_CHARACTERS),
    })),
  };
}

/** The report's JSON: RouterReport without the router's name, which is its key. */
export function reportOf(routerUid: string, replicas: readonly ReportedReplica[]): string {
  return JSON.stringify({
    routerUid,
    replicas: Object.fromEntries(replicas.map((replica) => [replica.name, replicaReport(replica)])),
  });
}

/** Equal for reports that say the same: why a replica cannot be reached is worded anew with each attempt to. */
function essence(replicas: readonly ReportedReplica[]): string {
  return JSON.stringify(
    replicas.map((replica) => {
      const { podUid, state, message, drain, interconnect } = replicaReport(replica);
      return [replica.name, podUid, state, drain ?? '', state === 'connecting' ? '' : message, interconnect];
    }),
  );
}

export interface ReportWriterOptions {
  readonly routerUid: string;
  readonly replicas: () => readonly ReportedReplica[];
  /** Resolves when the report is where the operator reads it. */
  readonly write: (report: string) => Promise<void>;
  readonly logger: Logger;
}

/** Keeps the written report equal to the replicas' states; one write at a time, tried again until it succeeds. */
export class ReportWriter {
  readonly #options: ReportWriterOptions;
  #written: string | undefined;
  #timer: NodeJS.Timeout | undefined;
  #writing = false;
  #failures = 0;
  #closed = false;

  constructor(options: ReportWriterOptions) {
    this.#options = options;
  }

  /** Something may have changed. Cheap: it may come with every message of a replica that drains. */
  touch(): void {
    if (this.#timer !== undefined || this.#writing || this.#closed) return;
    this.#later(COALESCE_MS);
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
  }

  #later(ms: number): void {
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      void this.#write();
    }, ms);
  }

  async #write(): Promise<void> {
    const { routerUid, replicas, write, logger } = this.#options;
    const now = replicas();
    const saying = essence(now);
    if (saying === this.#written) return;
    this.#writing = true;
    try {
      await write(reportOf(routerUid, now));
      this.#written = saying;
      if (this.#failures > 0) logger.info('report written again', { failures: this.#failures });
      this.#failures = 0;
    } catch (error) {
      // Once a streak: requests are served all the same.
      if (this.#failures++ === 0) logger.warn('report not written', { err: describeError(error) });
    } finally {
      this.#writing = false;
      if (!this.#closed) {
        const backoff = FIRST_RETRY_MS * 2 ** Math.min(this.#failures - 1, 10);
        // Also after a success: what changed during the write has touched in vain.
        this.#later(this.#failures === 0 ? COALESCE_MS : Math.min(LONGEST_RETRY_MS, backoff));
      }
    }
  }
}
