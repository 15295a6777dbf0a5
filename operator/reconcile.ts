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
import type { ChildObject, Observed, ObservedNode } from './observed.ts';
import type { Plan, PlanConfig } from './plan.ts';
import { Pass, type PassOptions, type RefusedGroup, type Status, type StatusEvent } from './write-plan.ts';

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

export interface ReconcilerOptions extends Omit<PassOptions, 'events' | 'refused'> {
  readonly caches: ReconcilerCaches;
  readonly decisions: Decisions;
  readonly config: PlanConfig;
}

export class Reconciler implements SeenVersions {
  readonly #options: ReconcilerOptions;
  readonly #expectations = new Expectations();
  /** By deployment; only of those that have refused groups. */
  readonly #refused = new Map<Key, Map<string, RefusedGroup>>();

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
      this.#refused.delete(key);
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
    const refused = this.#refused.get(key) ?? new Map<string, RefusedGroup>();
    const observed = await this.#confirmNodes({ ...observe(deployment, caches), refused }, signal);
    const plan = decisions.plan(deployment, observed, config, now());
    const pass = this.#newPass(deployment, key, signal, refused);
    const interrupted = await pass.execute(plan);
    for (const name of refused.keys())
      if (!plan.create.some((group) => group.name === name)) refused.delete(name);
    if (refused.size === 0) this.#refused.delete(key);
    else this.#refused.set(key, refused);
    if (interrupted?.refusal === 'terminating') return {};

    const next = decisions.status(deployment, observed, plan, pass.told(), now());
    await pass.writeStatus(next);
    if (interrupted !== undefined) throw interrupted.error;
    pass.throwUnlessDone();
    return earliest(plan.requeueAfterMs, pass.retryAfterMs);
  }

  #newPass(
    deployment: InternVLDeployment,
    key: Key,
    signal: AbortSignal,
    refused = new Map<string, RefusedGroup>(),
  ): Pass {
    const { decisions, ...options } = this.#options;
    return new Pass(deployment, key, signal, this.#expectations, {
      ...options,
      events: (before, after) => decisions.events(before, after),
      refused,
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
