// The parts of one operator process and how they are connected: client, caches, leader election, workers, health and metrics.
import { randomUUID } from 'node:crypto';
import { KubeConfig } from '@kubernetes/client-node';
import { Gauge } from 'prom-client';
import type { Logger } from '../rpc/log.ts';
import { serveMetrics } from '../rpc/metrics-server.ts';
import { Caches } from './caches.ts';
import type { OperatorConfig } from './config.ts';
import { events } from './events.ts';
import { notReady, serveHealth, unhealthy, type Watch } from './health.ts';
import { ApiClient, type ListOptions, type ListPage, type WatchOptions } from './kube/api-client.ts';
import type { WatchEvent } from './kube/watch.ts';
import { Controller } from './kube/controller.ts';
import { isNotFound } from './kube/errors.ts';
import { EventRecorder } from './kube/events.ts';
import type { Key, Resource } from './kube/object.ts';
import { LeaderElector, type ElectionOutcome } from './kube/lease.ts';
import { Reflector } from './kube/reflector.ts';
import { RESOURCE_CLAIMS } from './kube/resources.ts';
import { WorkQueue } from './kube/work-queue.ts';
import { MANAGER } from './api.ts';
import { keyFor, type Identified } from './kube/identity.ts';
import { OperatorMetrics } from './metrics.ts';
import { plan } from './plan.ts';
import { Reconciler } from './reconcile.ts';
import { status } from './status.ts';

/** Runs until the signal is aborted or leadership is lost; throws when it cannot start. */
export async function runOperator(
  config: OperatorConfig,
  logger: Logger,
  signal: AbortSignal,
): Promise<ElectionOutcome> {
  const metrics = new OperatorMetrics({
    workers: config.concurrency,
    leaseName: config.leaderElection.name,
    source: () => ({
      statuses: () => caches.deployments.list().map((deployment) => deployment.status),
      queueDepth: queue.depth,
      unfinishedWorkSeconds: queue.unfinishedWorkSeconds,
      longestRunningSeconds: queue.longestRunningSeconds,
      synced: watches.filter(({ hasSynced }) => hasSynced).map(({ name }) => name),
      unsynced: watches.filter(({ hasSynced }) => !hasSynced).map(({ name }) => name),
    }),
  });
  memoryGauge(metrics);
  const client = ApiClient.fromKubeConfig(loadKubeConfig(config.kubeconfig), {
    userAgent: MANAGER,
    onRequest: metrics.onRequest,
  });
  const random = Math.random;
  const queue = new WorkQueue<Key>({ random, observer: metrics.queue });
  const caches = new Caches({
    namespaces: config.namespaces,
    resourceClaims: await servesClaims(client, config, signal),
    onKey: (key) => queue.add(key),
  });
  const watches: Watch[] = [];
  const synced: Promise<void>[] = [];
  const reflectors: Reflector<Identified>[] = [];
  for (const spec of caches.watches()) {
    const { resource, namespace, labelSelector, store, onChange, keep } = spec;
    let onSynced = (): void => undefined;
    synced.push(
      new Promise((resolve) => {
        onSynced = resolve;
      }),
    );
    const reflector = new Reflector<Identified>(
      keep === undefined ? client : trimmed(client, keep),
      resource,
      {
        store,
        onChange,
        namespace,
        labelSelector,
        onSynced,
        log: logger,
        random,
        observer: metrics.reflector(resource),
      },
    );
    const name = namespace === undefined ? resource.plural : `${resource.plural} of ${namespace}`;
    watches.push({
      name,
      get hasSynced() {
        return reflector.hasSynced;
      },
      get silentMs() {
        return reflector.silentMs;
      },
    });
    reflectors.push(reflector);
  }

  const startedAt = performance.now();
  const metricsServer =
    config.metricsListen === undefined
      ? undefined
      : await serveMetrics({
          listen: config.metricsListen,
          registry: metrics.registry,
          unhealthy: () => undefined,
        });
  const healthServer =
    config.healthListen === undefined
      ? undefined
      : await serveHealth({
          listen: config.healthListen,
          unhealthy: () => unhealthy(watches, performance.now() - startedAt),
          notReady: () => notReady(watches),
        });
  logger.info('listening', { metrics: metricsServer?.address, health: healthServer?.address });

  const ending = new AbortController();
  const end = (): void => ending.abort();
  signal.addEventListener('abort', end, { once: true });
  const watching = Promise.all(reflectors.map((reflector) => reflector.run(ending.signal)));

  const lead = async (leadership: AbortSignal, check: () => void): Promise<void> => {
    const writer = client.fenced(check);
    const recorder = new EventRecorder(writer, {
      component: MANAGER,
      instance: config.identity,
      log: logger,
    });
    const reconciler = new Reconciler({
      caches,
      writer,
      decisions: { plan, status, events },
      config: config.plan,
      record: ({ apiVersion, kind, metadata: { name, namespace, uid } }, event) =>
        recorder.record(
          { apiVersion, kind, metadata: { name, ...(namespace && { namespace }), ...(uid && { uid }) } },
          event.type,
          event.reason,
          event.message,
        ),
      onStatus: metrics.onStatus,
      log: logger,
      now: () => Date.now(),
      newId: () => randomUUID(),
    });
    const controller = new Controller({
      queue,
      reconcile: (key, abort) => reconciler.reconcile(key, abort),
      log: logger,
      random,
      workers: config.concurrency,
      deadlineMs: config.reconcileTimeoutMs,
      resyncKeys: () => caches.deployments.list().map(keyFor),
      resyncMs: config.resyncMs,
      observer: metrics.controller,
    });
    logger.info('reconciling', { deployments: queue.depth });
    await controller.run(leadership);
    await recorder.flush();
  };

  try {
    // Who holds the Lease must be able to act: a process that cannot see its world yet, or never will, leaves it to those that can.
    await untilAborted(Promise.all(synced), ending.signal);
    if (ending.signal.aborted) return 'stopped';
    logger.info('synced', { deployments: caches.deployments.list().length });
    return await elect(config, client, logger, metrics, ending.signal, lead);
  } finally {
    signal.removeEventListener('abort', end);
    ending.abort();
    await watching;
    await Promise.all([metricsServer?.close(), healthServer?.close()]);
    client.close();
  }
}

/** Leads at once without an election, otherwise when the Lease is held. */
async function elect(
  config: OperatorConfig,
  client: ApiClient,
  logger: Logger,
  metrics: OperatorMetrics,
  signal: AbortSignal,
  lead: (leadership: AbortSignal, check: () => void) => Promise<void>,
): Promise<ElectionOutcome> {
  const { enabled, namespace, name, leaseDurationMs, renewDeadlineMs, retryPeriodMs } = config.leaderElection;
  if (!enabled) {
    metrics.leading(true);
    await lead(signal, () => signal.throwIfAborted());
    return 'stopped';
  }
  const elector = new LeaderElector(client, {
    namespace,
    name,
    identity: `${config.identity}_${randomUUID()}`,
    log: logger,
    random: Math.random,
    leaseDurationMs,
    renewDeadlineMs,
    retryPeriodMs,
    onLeading: metrics.leading,
  });
  return elector.run(signal, (leadership) => lead(leadership, elector.check));
}

function loadKubeConfig(file: string | undefined): KubeConfig {
  const kubeConfig = new KubeConfig();
  if (file === undefined) kubeConfig.loadFromDefault();
  else kubeConfig.loadFromFile(file);
  return kubeConfig;
}

/** Clusters before 1.34 have no resource.k8s.io/v1; a watch of it would never be in sync. Asked once: an upgraded cluster needs a restart. */
async function servesClaims(
  client: ApiClient,
  config: OperatorConfig,
  signal: AbortSignal,
): Promise<boolean> {
  try {
    await client.list(RESOURCE_CLAIMS, { namespace: config.namespaces[0], limit: 1, signal });
    return true;
  } catch (error) {
    if (isNotFound(error)) return false;
    throw error;
  }
}

async function untilAborted(work: Promise<unknown>, signal: AbortSignal): Promise<void> {
  let end = (): void => undefined;
  const aborted = new Promise<void>((resolve) => {
    end = resolve;
  });
  if (signal.aborted) end();
  signal.addEventListener('abort', end, { once: true });
  await Promise.race([work, aborted]);
  signal.removeEventListener('abort', end);
}

/** The client, keeping of each watched object only what `keep` leaves. */
function trimmed(
  client: ApiClient,
  keep: (object: Identified) => Identified,
): Pick<ApiClient, 'list' | 'watch'> {
  return {
    list: async <T>(resource: Resource, options?: ListOptions): Promise<ListPage<T>> => {
      const page = await client.list<T>(resource, options);
      return { ...page, items: page.items.map((item) => keep(item as Identified) as T) };
    },
    watch: async function* <T extends Identified>(resource: Resource, options: WatchOptions) {
      for await (const event of client.watch<T>(resource, options))
        yield event.type === 'BOOKMARK' ? event : ({ ...event, object: keep(event.object) } as WatchEvent<T>);
    },
  };
}

/** Under the name that every client library uses. */
function memoryGauge(metrics: OperatorMetrics): void {
  void new Gauge({
    name: 'process_resident_memory_bytes',
    help: 'Resident memory',
    registers: [metrics.registry],
    collect() {
      this.set(process.memoryUsage.rss());
    },
  });
}
