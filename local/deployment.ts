// A deployment on this machine: its plan run as local processes, with a router in front.
import { mkdtemp, rm } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { InternVLDeployment } from '../gen/crd/internvl-deployment.ts';
import { ReplicaState, type Model } from '../gen/proto/internvl/v1/inference.ts';
import { NOTHING_OBSERVED } from '../operator/observed.ts';
import { plan, type PlanConfig } from '../operator/plan.ts';
import { millisecondsOf } from '../operator/quantity.ts';
import { Deferred } from './deferred.ts';
import { localise, portsNeeded, type LocalGroup, type LocalPlan, type LocalProcess } from './localise.ts';
import { assertFree, freePorts, PortInUse } from './ports.ts';
import { GroupFailed, ProcessGroup, type GroupObserver } from './process-group.ts';
import { advance, parseProcessEvent, STARTING, type ProcessProgress } from './progress.ts';
import { ReadinessProbe } from './readiness.ts';
import type { Endpoints } from './ready-file.ts';
import { EXIT_PORT_IN_USE } from '../operator/restart-policy.ts';

const STABLE_MS = 10 * 60_000;
const POLL_MS = 100;
const IDLE_POLL_MS = 1000;
/** Ranks have nothing left to finish once the router has drained. */
const RANK_GRACE_MS = 10_000;
const ROUTER_MARGIN_MS = 5_000;

/** Of a cluster's concerns none has a meaning here. */
const LOCAL_CONFIG: PlanConfig = {
  runtimeImage: 'local',
  routerImage: 'local',
  placementTimeoutMs: 0,
  nodeLostTimeoutMs: 0,
  networkPolicy: false,
};

export interface ReplicaProgress {
  readonly name: string;
  readonly ranks: readonly ProcessProgress[];
  readonly ready: boolean;
  readonly down: boolean;
}

export interface DeploymentObserver {
  /** Something moved; called often while weights are loaded. */
  progress(replicas: readonly ReplicaProgress[]): void;
  /** A group went down or came back. */
  notice(text: string): void;
  /** All wanted replicas are ready, for the first time or again. */
  ready(endpoints: Endpoints, model: Model): void;
}

export interface LocalOptions {
  readonly host: string;
  /** The router's gRPC port; 0 = any free one. */
  readonly grpcPort: number;
  readonly observer: DeploymentObserver;
}

/** Starts the processes of a checked deployment whose source is file:///directory; throws PortInUse. */
export async function startDeployment(
  deployment: InternVLDeployment,
  options: LocalOptions,
): Promise<LocalDeployment> {
  if (options.grpcPort !== 0) await assertFree(options.host, options.grpcPort);
  const planned = plan(deployment, NOTHING_OBSERVED, LOCAL_CONFIG, 0);
  const [metricsPort = 0, anyPort = 0, ...ports] = await freePorts(portsNeeded(planned) + 2);
  const grpcPort = options.grpcPort === 0 ? anyPort : options.grpcPort;
  const host = options.host.includes(':') ? `[${options.host}]` : options.host;
  const cores = availableParallelism();
  const { size } = deployment.spec.tensorParallel;
  if (size > cores)
    options.observer.notice(
      `${size} ranks of a replica share ${cores} core${cores === 1 ? '' : 's'}: it works, but slower than with ${cores}`,
    );
  const local = localise(planned, {
    ports,
    routerGrpc: `${host}:${grpcPort}`,
    routerMetrics: `${host}:${metricsPort}`,
    cores,
  });
  const logs = await mkdtemp(join(tmpdir(), 'internvl-'));
  return new LocalDeployment(local, logs, deployment, options.observer);
}

export class LocalDeployment {
  readonly logs: string;
  /** Rejects when it cannot serve any more: GroupFailed or PortInUse. Never resolves. */
  readonly failed: Promise<never>;
  /** Resolves when all replicas are ready for the first time; stays pending when that never happens. */
  readonly ready: Promise<Model>;
  readonly #plan: LocalPlan;
  readonly #observer: DeploymentObserver;
  readonly #drainTimeoutMs: number;
  readonly #progress = new Map<string, ProcessProgress>();
  readonly #ready = new Set<string>();
  readonly #lost = new Set<string>();
  readonly #closing = new AbortController();
  readonly #router: ProcessGroup;
  readonly #replicas: readonly ProcessGroup[];
  readonly #killOnExit = () => this.kill();
  readonly #firstReady = new Deferred<Model>();
  #announced = false;

  constructor(local: LocalPlan, logs: string, deployment: InternVLDeployment, observer: DeploymentObserver) {
    this.logs = logs;
    this.#plan = local;
    this.#observer = observer;
    this.#drainTimeoutMs = millisecondsOf(deployment.spec.rollout.drainTimeout);
    process.once('exit', this.#killOnExit);
    const budget = { maxRestarts: deployment.spec.rollout.maxGroupRestarts, stableMs: STABLE_MS };
    const run = (group: LocalGroup) =>
      new ProcessGroup(group, { logDirectory: logs, budget, observer: this.#groupObserver() });
    this.#router = run(local.router);
    this.#replicas = local.replicas.map(run);

    const failure = new Deferred<never>();
    this.failed = failure.promise;
    this.failed.catch(() => {}); // whoever awaits it sees it; nobody may be awaiting it yet
    for (const group of [this.#router, ...this.#replicas])
      group.ended.catch((error: unknown) => this.#groupFailed(error, failure.reject));
    this.ready = this.#firstReady.promise;
    void this.#follow(new ReadinessProbe(this.address));
  }

  /** HOST:PORT of the public API. */
  get address(): string {
    return this.#routerProcess.grpc;
  }

  get endpoints(): Endpoints {
    const pids = [this.#router, ...this.#replicas].flatMap((group) => [...group.pids]);
    return {
      grpc: this.address,
      metrics: this.#routerProcess.metrics,
      pids: Object.fromEntries(pids),
      logs: this.logs,
    };
  }

  /** Lets requests under way finish, then ends all processes; the logs are removed unless `keepLogs`. */
  async stop(options: { readonly keepLogs: boolean } = { keepLogs: false }): Promise<void> {
    this.#closing.abort(new Error('the deployment was stopped'));
    await this.#router.stop(this.#drainTimeoutMs + ROUTER_MARGIN_MS);
    await Promise.all(this.#replicas.map((group) => group.stop(RANK_GRACE_MS)));
    process.off('exit', this.#killOnExit);
    if (!options.keepLogs) await rm(this.logs, { recursive: true, force: true });
  }

  /** Kills all processes and keeps the logs. */
  kill(): void {
    this.#closing.abort(new Error('the deployment was killed'));
    for (const group of [this.#router, ...this.#replicas]) group.kill();
  }

  get #routerProcess(): LocalProcess {
    const [router] = this.#plan.router.processes;
    if (router === undefined) throw new Error('the plan has no router');
    return router;
  }

  #groupObserver(): GroupObserver {
    return {
      started: (group) => {
        for (const { name } of group.processes) this.#progress.set(name, STARTING);
        this.#report();
      },
      line: (process, line) => {
        const event = parseProcessEvent(line);
        const before = this.#progress.get(process.name) ?? STARTING;
        if (event === undefined) return;
        const after = advance(before, event);
        this.#progress.set(process.name, after);
        if (after !== before) this.#report();
      },
      restarting: (group, why, delayMs) => {
        for (const { name } of group.processes) this.#progress.set(name, { ...STARTING, phase: 'down' });
        this.#observer.notice(`${group.name}: ${why}; starting it again in ${(delayMs / 1000).toFixed(1)} s`);
        this.#ready.delete(group.name);
        this.#announced = false;
        this.#report();
      },
    };
  }

  /** Follows what the router says of the replicas, until the deployment is closed. */
  async #follow(probe: ReadinessProbe): Promise<void> {
    const { signal } = this.#closing;
    while (!signal.aborted) {
      const model = await probe.getModel();
      if (signal.aborted) break;
      const answered = new Set(
        (model?.replicas ?? []).filter(({ state }) => state === ReplicaState.READY).map(({ name }) => name),
      );
      for (const replica of this.#replicas) this.#setReady(replica, answered.has(replica.group.name));
      const wanted = this.#replicas.filter(({ group }) => !this.#lost.has(group.name));
      const allReady = wanted.length > 0 && wanted.every(({ group }) => this.#ready.has(group.name));
      if (model !== undefined && allReady && !this.#announced) {
        this.#announced = true;
        this.#router.markReady();
        this.#observer.ready(this.endpoints, model);
        this.#firstReady.resolve(model);
      }
      await sleep(this.#announced ? IDLE_POLL_MS : POLL_MS, undefined, { signal }).catch(() => {}); // closed
    }
    probe.close();
  }

  /** The router may not have noticed yet that a group went down, so its word counts only while every rank serves. */
  #setReady(replica: ProcessGroup, answered: boolean): void {
    const { name, processes } = replica.group;
    const ready =
      answered && processes.every((process) => this.#progress.get(process.name)?.phase === 'serving');
    if (ready) replica.markReady();
    if (ready === this.#ready.has(name)) return;
    if (ready) this.#ready.add(name);
    else this.#ready.delete(name);
    this.#report();
  }

  #report(): void {
    this.#observer.progress(
      this.#plan.replicas.map(({ name, processes }) => {
        const ranks = processes.map((process) => this.#progress.get(process.name) ?? STARTING);
        const down = this.#lost.has(name) || ranks.some(({ phase }) => phase === 'down');
        return { name, ranks, ready: this.#ready.has(name), down };
      }),
    );
  }

  #groupFailed(error: unknown, reject: (reason: unknown) => void): void {
    const isRouter = error instanceof GroupFailed && error.group === this.#plan.router.name;
    if (isRouter && error.exitCode === EXIT_PORT_IN_USE) {
      reject(
        new PortInUse(`${this.address} is in use by another process; stop it or choose another --grpc-port`, {
          cause: error,
        }),
      );
      return;
    }
    if (error instanceof GroupFailed && !isRouter) {
      this.#lost.add(error.group);
      this.#ready.delete(error.group);
      this.#report();
      // One replica that stays down does not end the service of the others.
      if (this.#ready.size > 0) {
        this.#observer.notice(`${error.group} stays down: ${error.message}; its log is ${error.logFile}`);
        return;
      }
    }
    reject(error);
  }
}
