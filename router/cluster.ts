// The router's two dealings with the API server: the pods it watches and the report it writes. Both may fail for as long as they like.

import { KubeConfig, type V1Pod } from '@kubernetes/client-node';
import { COMPONENTS, LABELS } from '../operator/api.ts';
import { ApiClient } from '../operator/kube/api-client.ts';
import { Reflector } from '../operator/kube/reflector.ts';
import { CONFIG_MAPS, PODS } from '../operator/kube/resources.ts';
import { Store } from '../operator/kube/store.ts';
import type { Logger } from '../rpc/log.ts';
import type { Discovery } from './config.ts';

const WRITE_DEADLINE_MS = 10_000;
/** Events that come together are taken together. */
const COALESCE_MS = 10;

export class Cluster {
  readonly #discovery: Discovery;
  readonly #client: ApiClient;
  readonly #logger: Logger;
  readonly #store = new Store<V1Pod>();
  readonly #stopped = new AbortController();
  #reflector: Reflector<V1Pod> | undefined;
  #running: Promise<void> | undefined;

  /** `config` as a pod finds it by default. */
  constructor(discovery: Discovery, logger: Logger, config: KubeConfig = defaultKubeConfig()) {
    this.#discovery = discovery;
    this.#logger = logger;
    this.#client = ApiClient.fromKubeConfig(config, { userAgent: 'internvl-router' });
  }

  /** True once all pods have been seen; it stays true while the API server is away, and what was seen last stays. */
  get synced(): boolean {
    return this.#reflector?.hasSynced ?? false;
  }

  /** Tells of all rank pods of the deployment, whenever one of them changes. */
  watchPods(onPods: (pods: readonly V1Pod[]) => void): void {
    let planned: NodeJS.Timeout | undefined;
    const changed = (): void => {
      planned ??= setTimeout(() => {
        planned = undefined;
        if (!this.#stopped.signal.aborted) onPods(this.#store.list());
      }, COALESCE_MS);
    };
    const { namespace, deploymentLabel } = this.#discovery;
    this.#reflector = new Reflector(this.#client, PODS, {
      store: this.#store,
      namespace,
      labelSelector: `${LABELS.deployment}=${deploymentLabel},${LABELS.component}=${COMPONENTS.runtime}`,
      onChange: changed,
      onSynced: changed,
      log: this.#logger,
      random: Math.random,
    });
    this.#running = this.#reflector.run(this.#stopped.signal);
  }

  /** Writes this router's key of the report. */
  async writeReport(report: string): Promise<void> {
    const { namespace, reportConfigMap, podName } = this.#discovery;
    await this.#client.apply(
      CONFIG_MAPS,
      {
        apiVersion: 'v1',
        kind: 'ConfigMap',
        metadata: { name: reportConfigMap, namespace },
        data: { [podName]: report },
      },
      {
        fieldManager: podName,
        force: true,
        deadlineMs: WRITE_DEADLINE_MS,
        signal: this.#stopped.signal,
      },
    );
  }

  async close(): Promise<void> {
    this.#stopped.abort();
    await this.#running;
  }
}

function defaultKubeConfig(): KubeConfig {
  const config = new KubeConfig();
  config.loadFromDefault();
  return config;
}
