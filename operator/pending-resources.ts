import type { V1ConfigMap, V1Pod } from '@kubernetes/client-node';
import type { InternVLDeployment } from '../gen/crd/internvl-deployment.ts';
import { LABELS } from './api.ts';
import { replicaName, baseName } from './names.ts';
import type { ChildObject } from './observed.ts';
import { routerDeployment } from './resources/router.ts';
import { rankPods as old, rankAddress as oldAddress } from './resources/rank-pods.ts';
export interface RevisionTemplate {
  deployment: InternVLDeployment;
  image: string;
}
export interface Place {
  name: string;
  revision: string;
  index: number;
  namespace: string;
  avoidNodes?: readonly string[];
}
export function rankPods(t: RevisionTemplate, p: Place): V1Pod[] {
  const pods = old(t.deployment, {
    revision: p.revision,
    replica: p.index,
    namespace: p.namespace,
    image: t.image,
  });
  for (const pod of pods) pod.metadata!.labels![LABELS.group] = replicaName(p.name, p.revision, p.index);
  return pods;
}
export const resourceClaim = (_t: RevisionTemplate, _p: Place): ChildObject | undefined => undefined;
export const rankAddress = (t: RevisionTemplate, p: Place, rank: number): string =>
  oldAddress(
    t.deployment,
    { revision: p.revision, replica: p.index, namespace: p.namespace, image: '' },
    rank,
  );
export const revisionTemplate = (
  deployment: InternVLDeployment,
  c: { runtimeImage: string },
): RevisionTemplate => ({
  deployment: { ...deployment, status: {} },
  image: deployment.spec.image ?? c.runtimeImage,
});
export const revisionConfigMap = (
  deployment: InternVLDeployment,
  revision: string,
  template: RevisionTemplate,
): ChildObject => ({
  apiVersion: 'v1',
  kind: 'ConfigMap',
  metadata: {
    name: `${baseName(deployment.metadata.name)}-${revision}`,
    namespace: deployment.metadata.namespace!,
  },
  data: { revision, 'template.json': JSON.stringify(template) },
});
export const parseRevisionConfigMap = (cm: V1ConfigMap) =>
  cm.data?.['template.json'] === undefined
    ? undefined
    : { revision: cm.data['revision']!, template: JSON.parse(cm.data['template.json']) as RevisionTemplate };
export const children = (d: InternVLDeployment, c: { routerImage: string }): ChildObject[] => [
  routerDeployment(d, {
    namespace: d.metadata.namespace ?? 'default',
    image: d.spec.router.image ?? c.routerImage,
    targets: [],
  }) as unknown as ChildObject,
];
export const failuresConfigMapName = (n: string): string => `${baseName(n)}-failures`;
export const reportConfigMapName = (n: string): string => `${baseName(n)}-routers`;
export const modelSourceProblem = (d: InternVLDeployment): string | undefined =>
  /^(pvc|file):/.test(d.spec.model.source) ? undefined : `${d.spec.model.source} cannot be loaded yet`;
export const interconnectState = (_d: InternVLDeployment) => ({
  status: 'True' as const,
  reason: 'NotApplicable',
  message: '',
  blocksPods: false,
});
