// Routers without routers: what a router would report once a replica's ranks run is written for it, in as many patches as routers would write.

import { KubeConfig, type V1Pod } from '@kubernetes/client-node';
import { LABELS } from '../../operator/api.ts';
import { ApiClient } from '../../operator/kube/api-client.ts';
import { Reflector } from '../../operator/kube/reflector.ts';
import { CONFIG_MAPS, PODS } from '../../operator/kube/resources.ts';
import { Store } from '../../operator/kube/store.ts';
import { routersConfigMapName } from '../../operator/names.ts';

export const ROUTERS_USER_AGENT = 'internvl-bench-routers';
const MOST_AT_ONCE = 16;

interface Seen {
  router?: V1Pod;
  leader?: V1Pod;
}

export class SimulatedRouters {
  readonly #client: ApiClient;
  readonly #ending = new AbortController();
  readonly #seen = new Map<string, Seen>();
  readonly #reported = new Map<string, string>();
  readonly #waiting = new Set<string>();
  #running = 0;
  #watching: Promise<void> | undefined;
  /** Reports that could not be written and were tried again. */
  refusals = 0;

  constructor(kubeconfig: string) {
    const config = new KubeConfig();
    config.loadFromFile(kubeconfig);
    this.#client = ApiClient.fromKubeConfig(config, { userAgent: ROUTERS_USER_AGENT });
  }

  start(): void {
    const store = new Store<V1Pod & { metadata: { name: string } }>({});
    const reflector = new Reflector(this.#client, PODS, {
      store,
      labelSelector: LABELS.deployment,
      random: Math.random,
      log: console,
      onChange: ({ object }) => this.#take(object),
    });
    this.#watching = reflector.run(this.#ending.signal);
  }

  async stop(): Promise<void> {
    this.#ending.abort();
    await this.#watching;
    this.#client.close();
  }

  #take(pod: V1Pod): void {
    const { labels = {}, namespace = '', deletionTimestamp } = pod.metadata ?? {};
    if (deletionTimestamp !== undefined || pod.status?.phase !== 'Running') return;
    const key = `${namespace}/${labels[LABELS.deployment]}`;
    const seen = this.#seen.get(key) ?? {};
    this.#seen.set(key, seen);
    if (labels[LABELS.component] === 'router') seen.router = pod;
    else if (labels[LABELS.rank] === '0') seen.leader = pod;
    this.#queue(key);
  }

  #queue(key: string): void {
    const { router, leader } = this.#seen.get(key) ?? {};
    const uid = leader?.metadata?.uid;
    if (router === undefined || uid === undefined || this.#reported.get(key) === uid) return;
    this.#waiting.add(key);
    this.#work();
  }

  #work(): void {
    for (const key of this.#waiting) {
      if (this.#running >= MOST_AT_ONCE) return;
      this.#waiting.delete(key);
      this.#running += 1;
      void this.#report(key).finally(() => {
        this.#running -= 1;
        this.#work();
      });
    }
  }

  async #report(key: string): Promise<void> {
    const { router, leader } = this.#seen.get(key) ?? {};
    const name = router?.metadata?.name;
    const group = leader?.metadata?.labels?.[LABELS.group];
    const podUid = leader?.metadata?.uid;
    const [namespace, deployment = ''] = key.split('/');
    if (name === undefined || group === undefined || podUid === undefined || namespace === undefined) return;
    const report = {
      routerUid: router?.metadata?.uid,
      replicas: { [group]: { podUid, state: 'ready', message: '' } },
    };
    try {
      await this.#client.apply(
        CONFIG_MAPS,
        {
          apiVersion: 'v1',
          kind: 'ConfigMap',
          metadata: { name: routersConfigMapName(deployment), namespace },
          data: { [name]: JSON.stringify(report) },
        },
        { fieldManager: name, force: true },
      );
      this.#reported.set(key, podUid);
    } catch (error) {
      if (this.#ending.signal.aborted) return;
      this.refusals += 1;
      if (this.refusals < 10) console.error(`bench: ${key}: ${String(error)}`);
      this.#waiting.add(key);
    }
  }
}
