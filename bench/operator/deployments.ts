// The bench's deployments: made as fast as the API server takes them, and watched until all are ready.

import { KubeConfig } from '@kubernetes/client-node';
import { API_VERSION, KIND } from '../../operator/api.ts';
import { INTERNVL_DEPLOYMENTS } from '../../operator/caches.ts';
import { ApiClient } from '../../operator/kube/api-client.ts';
import { Reflector } from '../../operator/kube/reflector.ts';
import { Store } from '../../operator/kube/store.ts';
import type { InternVLDeployment } from '../../gen/crd/internvl-deployment.ts';

export const CLIENT_USER_AGENT = 'internvl-bench-client';
const NAMESPACES = 10;
const MOST_AT_ONCE = 20;

type Deployment = InternVLDeployment & { readonly metadata: { readonly name: string } };

export class Deployments {
  readonly #client: ApiClient;
  readonly #ending = new AbortController();
  readonly #ready = new Set<string>();
  readonly #watchers = new Set<() => void>();
  #watching: Promise<void> | undefined;

  constructor(kubeconfig: string) {
    const config = new KubeConfig();
    config.loadFromFile(kubeconfig);
    this.#client = ApiClient.fromKubeConfig(config, { userAgent: CLIENT_USER_AGENT });
  }

  /** Namespaces to make before. */
  static get namespaces(): string[] {
    return Array.from({ length: NAMESPACES }, (_, index) => `bench-${index}`);
  }

  watch(): void {
    const reflector = new Reflector<Deployment>(this.#client, INTERNVL_DEPLOYMENTS, {
      store: new Store<Deployment>(),
      random: Math.random,
      log: console,
      onChange: ({ type, object }) => {
        const key = `${object.metadata.namespace}/${object.metadata.name}`;
        const ready = object.status?.conditions?.some((one) => one.type === 'Ready' && one.status === 'True');
        if (type !== 'removed' && ready === true) this.#ready.add(key);
        else this.#ready.delete(key);
        for (const wake of this.#watchers) wake();
      },
    });
    this.#watching = reflector.run(this.#ending.signal);
  }

  get ready(): number {
    return this.#ready.size;
  }

  async untilReady(count: number): Promise<void> {
    if (this.#ready.size >= count) return;
    await new Promise<void>((resolve) => {
      const wake = () => {
        if (this.#ready.size < count) return;
        this.#watchers.delete(wake);
        resolve();
      };
      this.#watchers.add(wake);
    });
  }

  /** Deployments of one replica with two ranks each, spread over the namespaces. */
  async create(count: number): Promise<void> {
    let next = 0;
    const work = async () => {
      while (next < count) {
        const index = next++;
        await this.#client.create(INTERNVL_DEPLOYMENTS, {
          apiVersion: API_VERSION,
          kind: KIND,
          metadata: { name: `model-${index}`, namespace: `bench-${index % NAMESPACES}` },
          spec: { model: { source: 'file:///models/demo' }, replicas: 1, tensorParallel: { size: 2 } },
        } as never);
      }
    };
    await Promise.all(Array.from({ length: MOST_AT_ONCE }, work));
  }

  async stop(): Promise<void> {
    this.#ending.abort();
    await this.#watching;
    this.#client.close();
  }
}
