// What is left over: children that a spec or flag has made needless, claims of groups that are gone, reports of routers that are gone.
import type { InternVLDeployment } from '../gen/crd/internvl-deployment.ts';
import { routersConfigMapName } from './names.ts';
import type { ChildObject, Observed } from './observed.ts';

/** Children of kinds that a spec or flag can make needless, and claims of groups that are gone. */
const PRUNED_KINDS = new Set(['PodDisruptionBudget', 'NetworkPolicy']);

export function unusedChildren(
  observed: Observed,
  apply: readonly ChildObject[],
  claims: ReadonlySet<string>,
): ChildObject[] {
  const wanted = new Set(apply.map(({ kind, metadata }) => `${kind} ${metadata.name}`));
  return observed.children.filter(({ kind, metadata }) => {
    if (metadata.deletionTimestamp !== undefined) return false;
    if (kind === 'ResourceClaim') return !claims.has(metadata.name);
    return PRUNED_KINDS.has(kind) && !wanted.has(`${kind} ${metadata.name}`);
  });
}

export function staleReports(deployment: InternVLDeployment, observed: Observed): string[] {
  const name = routersConfigMapName(deployment.metadata.name);
  const configMap = observed.children.find(
    (child) => child.kind === 'ConfigMap' && child.metadata.name === name,
  );
  const data = configMap?.['data'];
  if (typeof data !== 'object' || data === null) return [];
  const alive = new Set(observed.routerPods.map(({ metadata }) => metadata?.name));
  return Object.keys(data).filter((router) => !alive.has(router));
}
