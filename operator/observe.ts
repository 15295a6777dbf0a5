// The caches' picture of one deployment, as plain data.
import type { V1ConfigMap, V1Pod } from '@kubernetes/client-node';
import type { InternVLDeployment } from '../gen/crd/internvl-deployment.ts';
import { COMPONENTS, LABELS } from './api.ts';
import { readInterconnect } from './interconnect-report.ts';
import { baseName, failuresConfigMapName, routersConfigMapName } from './names.ts';
import type { ChildObject, Observed, ObservedNode, ReplicaReport, RouterReport } from './observed.ts';

/** What observe.ts reads; caches.ts has it. */
export interface ObservableCaches {
  readonly nodes: ReadonlyMap<string, ObservedNode>;
  /** Pods that the object with this uid controls. */
  podsOf(uid: string): readonly V1Pod[];
  /** Pods that carry the deployment's label, whoever owns them. */
  podsOfInstance(namespace: string | undefined, instance: string): readonly V1Pod[];
  /** Children other than pods. */
  childrenOf(uid: string): readonly ChildObject[];
}

/** What is seen of `deployment`; only what it controls, and router pods by their label. */
export function observe(deployment: InternVLDeployment, caches: ObservableCaches): Observed {
  const { name, namespace, uid = '' } = deployment.metadata;
  const owned = caches.podsOf(uid);
  const routerPods = caches
    .podsOfInstance(namespace, baseName(name))
    .filter((pod) => pod.metadata?.labels?.[LABELS.component] === COMPONENTS.router);

  const revisions: V1ConfigMap[] = [];
  const children: ChildObject[] = [];
  let failures: V1ConfigMap | undefined;
  let reports: readonly RouterReport[] = [];
  for (const child of caches.childrenOf(uid)) {
    if (child.kind === 'ConfigMap' && child.metadata.labels?.[LABELS.component] === COMPONENTS.revision) {
      revisions.push(child as unknown as V1ConfigMap);
    } else if (child.kind === 'ConfigMap' && child.metadata.name === failuresConfigMapName(name)) {
      failures = child as unknown as V1ConfigMap;
    } else {
      if (child.kind === 'ConfigMap' && child.metadata.name === routersConfigMapName(name))
        reports = readReports(child as unknown as V1ConfigMap, routerPods);
      children.push(child);
    }
  }
  return {
    pods: byName(owned),
    routerPods: byName(routerPods),
    reports,
    revisions,
    failures,
    nodes: caches.nodes,
    children,
  };
}

/** In the order of names, so that decisions and messages do not depend on the order of events. */
function byName(pods: readonly V1Pod[]): V1Pod[] {
  return pods.toSorted((a, b) => compare(a.metadata?.name ?? '', b.metadata?.name ?? ''));
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** Reports of router pods that exist, with the same uid and not finished; what cannot be read counts as no report. */
export function readReports(configMap: V1ConfigMap, routerPods: readonly V1Pod[]): RouterReport[] {
  const alive = new Map(
    routerPods
      .filter(({ status }) => status?.phase !== 'Succeeded' && status?.phase !== 'Failed')
      .map(({ metadata }) => [metadata?.name, metadata?.uid]),
  );
  const reports: RouterReport[] = [];
  for (const [router, text] of Object.entries(configMap.data ?? {})) {
    const report = parseReport(router, text);
    if (report !== undefined && alive.get(router) === report.routerUid) reports.push(report);
  }
  return reports.toSorted((a, b) => compare(a.router, b.router));
}

const STATES: ReadonlySet<string> = new Set<ReplicaReport['state']>([
  'connecting',
  'probing',
  'ready',
  'draining',
  'drained',
  'ejected',
  'incompatible',
]);

/** Undefined for what no router of this version writes: it is then as if that router had said nothing. */
function parseReport(router: string, text: string): RouterReport | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (!isObject(value) || typeof value['routerUid'] !== 'string' || !isObject(value['replicas']))
    return undefined;
  const replicas: Record<string, ReplicaReport> = {};
  for (const [group, replica] of Object.entries(value['replicas'])) {
    if (!isObject(replica)) continue;
    const { podUid, state, message, drain } = replica;
    const interconnect = readInterconnect(replica['interconnect']);
    if (typeof podUid !== 'string' || typeof state !== 'string' || !STATES.has(state)) continue;
    replicas[group] = {
      podUid,
      state: state as ReplicaReport['state'],
      message: typeof message === 'string' ? message : '',
      ...(typeof drain === 'string' && { drain }),
      ...(interconnect && { interconnect }),
    };
  }
  return { router, routerUid: value['routerUid'], replicas };
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
