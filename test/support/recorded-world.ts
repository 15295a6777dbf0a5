// What kubelets, the scheduler and routers would do, played on a RecordedCluster in one step: pods run and get ready, routers report, deletions end.
import type { V1Pod } from '@kubernetes/client-node';
import { ANNOTATIONS, COMPONENTS, LABELS, MANAGER } from '../../operator/api.ts';
import { keyFor } from '../../operator/kube/identity.ts';
import { baseName, routersConfigMapName } from '../../operator/names.ts';
import type { RecordedCluster } from './recorded-cluster.ts';

export const NODE = 'node-a';
const AT = '2026-01-01T00:00:00Z';

export function addNode(cluster: RecordedCluster, name = NODE): void {
  cluster.put({
    apiVersion: 'v1',
    kind: 'Node',
    metadata: { name },
    spec: {},
    status: { conditions: [{ type: 'Ready', status: 'True' }] },
  } as never);
}

/** One step of everything that is not the operator. */
export function worldMoves(cluster: RecordedCluster, deployment: { name: string; namespace: string }): void {
  cluster.finishDeletions();
  for (const pod of cluster.list('Pod'))
    if (pod.metadata.labels?.[LABELS.component] === 'runtime') run(cluster, pod as unknown as V1Pod);
  for (const { metadata, ...rest } of cluster.list('Deployment')) {
    if (rest['status'] !== undefined) continue;
    cluster.edit('Deployment', keyFor({ metadata }), (object) => {
      object['status'] = {
        observedGeneration: 1,
        replicas: 1,
        updatedReplicas: 1,
        readyReplicas: 1,
        availableReplicas: 1,
      };
    });
  }
  report(cluster, deployment);
}

function run(cluster: RecordedCluster, pod: V1Pod): void {
  if (pod.status?.phase !== undefined) return;
  cluster.edit('Pod', keyFor(pod), (object) => {
    object.metadata.creationTimestamp = AT;
    object['spec'] = { ...(object['spec'] as object), nodeName: NODE };
    object['status'] = {
      phase: 'Running',
      conditions: ['PodScheduled', 'ContainersReady'].map((type) => ({
        type,
        status: 'True',
        lastTransitionTime: AT,
      })),
      containerStatuses: pod.spec?.containers.map(({ name }) => ({
        name,
        ready: true,
        restartCount: 0,
        image: '',
        imageID: '',
        state: { running: { startedAt: AT } },
      })),
    };
  });
}

/** One router, which has seen every rank 0 that lives. */
function report(cluster: RecordedCluster, { name, namespace }: { name: string; namespace: string }): void {
  const router = `${baseName(name)}-router-1`;
  if (cluster.get('Pod', `${namespace}/${router}`) === undefined)
    cluster.put({
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: {
        name: router,
        namespace,
        labels: {
          [LABELS.component]: COMPONENTS.router,
          [LABELS.deployment]: baseName(name),
          [LABELS.managedBy]: MANAGER,
        },
      },
      status: { phase: 'Running', conditions: [{ type: 'Ready', status: 'True' }] },
    } as never);
  const key = `${namespace}/${routersConfigMapName(name)}`;
  if (cluster.get('ConfigMap', key) === undefined) return;
  const replicas: Record<string, object> = {};
  for (const { metadata } of cluster.list('Pod')) {
    const group = metadata.labels?.[LABELS.group];
    if (
      group === undefined ||
      metadata.labels?.[LABELS.rank] !== '0' ||
      metadata.deletionTimestamp !== undefined
    )
      continue;
    const drains = metadata.annotations?.[ANNOTATIONS.drain] !== undefined;
    const state = drains ? 'drained' : isWhole(cluster, group) ? 'ready' : 'connecting';
    replicas[group] = { podUid: metadata.uid, state, message: '' };
  }
  const text = JSON.stringify({
    routerUid: cluster.get('Pod', `${namespace}/${router}`)?.metadata.uid,
    replicas,
  });
  const before = (cluster.get('ConfigMap', key)?.['data'] as Record<string, string> | undefined)?.[router];
  if (text !== before)
    cluster.edit('ConfigMap', key, (object) => {
      object['data'] = { [router]: text };
    });
}

/** A probe goes through all ranks. Every group of these tests has two. */
function isWhole(cluster: RecordedCluster, group: string): boolean {
  const living = cluster.list('Pod').filter(({ metadata, ...rest }) => {
    const { phase } = (rest['status'] ?? {}) as { phase?: string };
    return (
      metadata.labels?.[LABELS.group] === group &&
      metadata.deletionTimestamp === undefined &&
      phase === 'Running'
    );
  });
  return living.length === 2;
}
