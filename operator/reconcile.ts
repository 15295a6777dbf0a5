// observe -> plan -> write -> status, for one deployment at a time. Level-triggered: what happened is not looked at, only what is.
import type { V1Pod } from '@kubernetes/client-node';
import type { InternVLDeployment } from '../gen/crd/internvl-deployment.ts';
import { ANNOTATIONS } from './api.ts';
import { pausedStatus } from './paused-status.ts';
import { Expectations, type SeenVersions } from './expectations.ts';
import { isNotFound } from './kube/errors.ts';
import type { ReconcileResult } from './kube/controller.ts';
import type { Key, Resource } from './kube/object.ts';
import { NODES } from './kube/resources.ts';
import { observe, type ObservableCaches } from './observe.ts';
import type { ChildObject, Observed, ObservedNode, UnmadeGroup } from './observed.ts';
import type { Plan, PlanConfig } from './plan.ts';
import { Pass, type PassOptions, type Status, type StatusEvent } from './write-plan.ts';

/** The pure parts; given as functions so that tests can look at the writing alone. */
export interface Decisions {
  plan(deployment: InternVLDeployment, observed: Observed, config: PlanConfig, now: number): Plan;
  status(
    deployment: InternVLDeployment,
    observed: Observed,
    plan: Plan,
    errors: readonly Error[],
    now: number,
  ): Status;
  events(before: Status, after: Status): readonly StatusEvent[];
}

export interface ReconcilerCaches extends ObservableCaches {
  readonly deployments: { get(key: Key): InternVLDeployment | undefined };
  readonly pods: { get(key: Key): V1Pod | undefined };
  child(apiVersion: string, kind: string, key: Key): ChildObject | undefined;
  resourceVersion(
    kind: Pick<Resource, 'apiVersion' | 'kind'>,
    namespace: string | undefined,
  ): string | undefined;
}

export interface ReconcilerOptions extends Omit<PassOptions, 'events' | 'unmade'> {
  readonly caches: ReconcilerCaches;
  readonly decisions: Decisions;
  readonly config: PlanConfig;
}

export class Reconciler implements SeenVersions {
  readonly #options: ReconcilerOptions;
  readonly #expectations = new Expectations();
  /** By deployment; only of those that have groups whose creation was cut short. */
  readonly #unmade = new Map<Key, Map<string, UnmadeGroup>>();

  constructor(options: ReconcilerOptions) {
    this.#options = options;
  }

  /** Brings the cluster closer to what the deployment asks for; throws what should be tried again. */
  async reconcile(key: Key, signal: AbortSignal): Promise<ReconcileResult> {
    const { caches, config, decisions, log, now } = this.#options;
    const deployment = caches.deployments.get(key);
    // What it owned is collected by the garbage collector.
    if (deployment === undefined || deployment.metadata.deletionTimestamp !== undefined) {
      this.#expectations.forget(key);
      this.#unmade.delete(key);
      return {};
    }
    const pending = this.#expectations.pending(key, deployment.metadata.namespace, this, now());
    // The event that brings the cache level queues the key again; the delay is for an event that never comes.
    if (pending !== undefined && pending.leftMs > 0) return { requeueAfterMs: pending.leftMs };
    if (pending !== undefined) {
      log.warn('cache is behind', { key, missing: pending.what });
      this.#expectations.forget(key);
    }

    if (deployment.metadata.annotations?.[ANNOTATIONS.paused] === 'true') {
      await this.#newPass(deployment, key, signal).writeStatus(pausedStatus(deployment, now()));
      return {};
    }
    const unmade = this.#unmade.get(key) ?? new Map<string, UnmadeGroup>();
    const observed = await this.#confirmNodes({ ...observe(deployment, caches), unmade }, signal);
    const plan = decisions.plan(deployment, observed, config, now());
    const pass = this.#newPass(deployment, key, signal, unmade);
    const interrupted = await pass.execute(plan);
    for (const name of unmade.keys())
      if (!plan.create.some((group) => group.name === name)) unmade.delete(name);
    if (unmade.size === 0) this.#unmade.delete(key);
    else this.#unmade.set(key, unmade);
    if (interrupted?.refusal === 'terminating') return {};

    const next = decisions.status(deployment, observed, plan, pass.told(), now());
    // A status that says Ready before the gate does would be wrong until the next try. One that tells of a refusal cannot wait for it.
    if (pass.gatesStand || pass.told().length > 0) await pass.writeStatus(next);
    if (interrupted !== undefined) throw interrupted.error;
    pass.throwUnlessDone();
    return earliest(plan.requeueAfterMs, pass.retryAfterMs);
  }

  #newPass(
    deployment: InternVLDeployment,
    key: Key,
    signal: AbortSignal,
    unmade = new Map<string, UnmadeGroup>(),
  ): Pass {
    const { decisions, ...options } = this.#options;
    return new Pass(deployment, key, signal, this.#expectations, {
      ...options,
      events: (before, after) => decisions.events(before, after),
      unmade,
    });
  }

  resourceVersion(
    kind: Pick<Resource, 'apiVersion' | 'kind'>,
    namespace: string | undefined,
  ): string | undefined {
    return this.#options.caches.resourceVersion(kind, namespace);
  }

  showsLivingPod(key: Key, uid: string): boolean {
    const pod = this.#options.caches.pods.get(key);
    return pod?.metadata?.uid === uid && pod.metadata.deletionTimestamp === undefined;
  }

  /**
   * The caches of pods and nodes are not at one time: a pod may be seen on a new node before the node is. A group is replaced when its node is gone, so
   * that is believed only when the API server says so.
   */
  async #confirmNodes(observed: Observed, signal: AbortSignal): Promise<Observed> {
    const found = new Map<string, ObservedNode>();
    for (const name of new Set(observed.pods.map(({ spec }) => spec?.nodeName ?? ''))) {
      if (name === '' || observed.nodes.has(name)) continue;
      try {
        await this.#options.writer.get(NODES, name, { signal });
        // Whether it is ready is told by the cache as soon as it has it.
        found.set(name, { ready: true, schedulable: true });
      } catch (error) {
        if (!isNotFound(error)) throw error;
      }
    }
    return found.size === 0 ? observed : { ...observed, nodes: new Map([...observed.nodes, ...found]) };
  }
}

function earliest(...delays: readonly (number | undefined)[]): ReconcileResult {
  const given = delays.filter((delay) => delay !== undefined);
  return given.length === 0 ? {} : { requeueAfterMs: Math.min(...given) };
}
