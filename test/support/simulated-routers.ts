// The routers of one deployment on fake nodes: they answer for every group as the real ones would, and count what they could have sent work to.
import type { V1Pod } from '@kubernetes/client-node';
import { ANNOTATIONS, LABELS, ROUTER_ACKNOWLEDGED } from '../../operator/api.ts';
import type { ApiClient } from '../../operator/kube/api-client.ts';
import { isNotFound } from '../../operator/kube/errors.ts';
import { CONFIG_MAPS, PODS } from '../../operator/kube/resources.ts';
import { Reflector } from '../../operator/kube/reflector.ts';
import { Store } from '../../operator/kube/store.ts';
import { baseName, routersConfigMapName } from '../../operator/names.ts';
import { conditionOf, containersReady, drainOf, isTerminating, rankOf } from '../../operator/rank-pod.ts';
import { eventually } from './operator-process.ts';
import { SILENT } from './silent-log.ts';

export class SimulatedRouters {
  /** While true, a group that drains still has requests. */
  holdDrains = false;
  /** Groups that never answer a probe. */
  refuses: (group: string) => boolean = () => false;
  /** The least number of groups that work could be sent to, since it was last set. */
  fewestServing = Number.POSITIVE_INFINITY;
  /** The most groups that had pods at one time, since it was last set. */
  mostGroups = 0;
  readonly #client: ApiClient;
  readonly #namespace: string;
  readonly #name: string;
  readonly #store = new Store<V1Pod>();
  readonly #written = new Map<string, string>();
  readonly #stop = new AbortController();
  readonly #running: Promise<void>;
  #again = false;
  #reporting: Promise<void> | undefined;

  constructor(client: ApiClient, namespace: string, name: string) {
    this.#client = client;
    this.#namespace = namespace;
    this.#name = name;
    this.#running = new Reflector<V1Pod>(client, PODS, {
      store: this.#store,
      namespace,
      labelSelector: `${LABELS.deployment}=${baseName(name)}`,
      onChange: () => this.look(),
      log: SILENT,
      random: Math.random,
    }).run(this.#stop.signal);
  }

  /** Counts from now on: what the API server holds has been seen before. */
  async recount(): Promise<void> {
    const labelSelector = `${LABELS.deployment}=${baseName(this.#name)}`;
    const { items } = await this.#client.list<V1Pod>(PODS, { namespace: this.#namespace, labelSelector });
    const versions = (pods: readonly V1Pod[]) =>
      pods.map(({ metadata }) => `${metadata?.uid} ${metadata?.resourceVersion}`).toSorted();
    await eventually(async () => {
      const behind = versions(this.#store.list()).join() !== versions(items).join();
      if (behind) throw new Error('the routers have not seen all that happened to pods');
    });
    this.fewestServing = Number.POSITIVE_INFINITY;
    this.mostGroups = 0;
    this.#count();
  }

  /** Looks at the pods and reports what has changed; call it after a change of `holdDrains` or `refuses`. */
  look(): void {
    this.#count();
    this.#again = true;
    this.#reporting ??= this.#report().finally(() => {
      this.#reporting = undefined;
    });
  }

  async close(): Promise<void> {
    this.#stop.abort();
    await this.#running;
    await this.#reporting;
  }

  #count(): void {
    const pods = this.#store.list().filter((pod) => pod.metadata?.labels?.[LABELS.group] !== undefined);
    const groups = byGroup(pods);
    const serving = [...groups.values()].filter(
      (group) =>
        group.every((pod) => containersReady(pod) && !isTerminating(pod)) &&
        group.some((pod) => conditionOf(pod, ROUTER_ACKNOWLEDGED)?.status === 'True') &&
        !group.some((pod) => drainOf(pod) !== undefined),
    );
    this.fewestServing = Math.min(this.fewestServing, serving.length);
    this.mostGroups = Math.max(this.mostGroups, groups.size);
  }

  async #report(): Promise<void> {
    while (this.#again && !this.#stop.signal.aborted) {
      this.#again = false;
      const pods = this.#store.list();
      const replicas = Object.fromEntries(
        pods
          .filter((pod) => pod.metadata?.labels?.[LABELS.group] !== undefined && rankOf(pod) === 0)
          .filter((pod) => !isTerminating(pod))
          .map((pod) => [pod.metadata?.labels?.[LABELS.group] ?? '', this.#wordOn(pod)]),
      );
      for (const router of pods) {
        const { name = '', uid = '', labels } = router.metadata ?? {};
        if (labels?.[LABELS.component] !== 'router' || isTerminating(router)) continue;
        await this.#write(name, JSON.stringify({ routerUid: uid, replicas }));
      }
    }
  }

  #wordOn(pod: V1Pod): object {
    const group = pod.metadata?.labels?.[LABELS.group] ?? '';
    const drain = pod.metadata?.annotations?.[ANNOTATIONS.drain];
    const podUid = pod.metadata?.uid;
    if (drain !== undefined)
      return { podUid, state: this.holdDrains ? 'draining' : 'drained', message: '', drain };
    const answers = containersReady(pod) && !this.refuses(group);
    return { podUid, state: answers ? 'ready' : 'connecting', message: '' };
  }

  async #write(router: string, report: string): Promise<void> {
    if (this.#written.get(router) === report) return;
    const key = `${this.#namespace}/${routersConfigMapName(this.#name)}`;
    try {
      await this.#client.mergePatch(CONFIG_MAPS, key, { data: { [router]: report } });
      this.#written.set(router, report);
    } catch (error) {
      if (this.#stop.signal.aborted) return;
      // The operator has not made it yet, or the API server is away: tried again until it is there.
      if (!isNotFound(error)) this.#written.delete(router);
      setTimeout(() => this.look(), 300);
    }
  }
}

/** Group name -> its pods. */
export function byGroup(pods: readonly V1Pod[]): Map<string, V1Pod[]> {
  const groups = new Map<string, V1Pod[]>();
  for (const pod of pods) {
    const name = pod.metadata?.labels?.[LABELS.group] ?? '';
    groups.set(name, [...(groups.get(name) ?? []), pod]);
  }
  return groups;
}
