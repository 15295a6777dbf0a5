// The revisions of one deployment that groups can be made of, and the groups that they make.
import type { V1Pod } from '@kubernetes/client-node';
import type { InternVLDeployment } from '../gen/crd/internvl-deployment.ts';
import { LABELS } from './api.ts';
import { blockedBy } from './blocked.ts';
import { replicaName, revisionConfigMapName } from './names.ts';
import type { ChildObject, Observed } from './observed.ts';
import { timeOf } from './rank-pod.ts';
import { rankAddress, type GroupPlace } from './resources/group-place.ts';
import { rankPods } from './resources/rank-pods.ts';
import { resourceClaim } from './resources/resource-claim.ts';
import { parseRevisionConfigMap, revisionConfigMap } from './resources/revision-config-map.ts';
import { revisionOf, revisionTemplate, type RevisionTemplate } from './revision.ts';

/** One group to make: the claim first, then the pods in rank order. `pods` are those that do not exist yet. */
export interface PlannedGroup {
  readonly name: string;
  readonly revision: string;
  readonly index: number;
  /** HOST:PORT of rank 0. */
  readonly address: string;
  readonly pods: readonly V1Pod[];
  readonly claim: ChildObject | undefined;
}

/** Revision ConfigMaps that no pod uses and that are kept all the same, for a rollback. */
const REVISIONS_KEPT = 2;
/** The templates that groups are made from: each revision's own, as it was written when the revision came up. */
export class Revisions {
  readonly current: string;
  readonly #deployment: InternVLDeployment;
  readonly #observed: Observed;
  readonly #templates = new Map<string, RevisionTemplate>();
  readonly #counts = new Map<string, number>();

  constructor(deployment: InternVLDeployment, observed: Observed, config: { readonly runtimeImage: string }) {
    this.#deployment = deployment;
    this.#observed = observed;
    this.current = revisionOf(deployment);
    for (const configMap of observed.revisions) {
      const parsed = parseRevisionConfigMap(configMap);
      if (parsed !== undefined) this.#templates.set(parsed.revision, parsed.template);
    }
    if (!this.#templates.has(this.current) && blockedBy(deployment) === undefined)
      this.#templates.set(this.current, revisionTemplate(deployment, config));
  }

  canMake(revision: string): boolean {
    return this.#templates.has(revision);
  }

  /** Pods of a whole group. */
  podCount(revision: string): number | undefined {
    const template = this.#templates.get(revision);
    if (template === undefined) return undefined;
    const known =
      this.#counts.get(revision) ?? rankPods(template, this.#place({ revision, index: 0 })).length;
    this.#counts.set(revision, known);
    return known;
  }

  planned(group: { revision: string; index: number; avoidNodes?: readonly string[] }): PlannedGroup {
    const template = this.#templates.get(group.revision);
    if (template === undefined) throw new Error(`revision ${group.revision} has no template`);
    const place = this.#place(group);
    const name = replicaName(place.deployment.name, group.revision, group.index);
    const claim = resourceClaim(template, place);
    const exists = this.#observed.children.some(
      (child) => child.kind === 'ResourceClaim' && child.metadata.name === claim?.metadata.name,
    );
    return {
      name,
      revision: group.revision,
      index: group.index,
      address: rankAddress(template, place, 0),
      pods: rankPods(template, place),
      claim: exists ? undefined : claim,
    };
  }

  /** The current revision's ConfigMap where there is none: what stands in one is never changed. */
  applied(): ChildObject[] {
    const template = this.#templates.get(this.current);
    const name = revisionConfigMapName(this.#deployment.metadata.name, this.current);
    const exists = this.#observed.revisions.some(({ metadata }) => metadata?.name === name);
    return template === undefined || exists
      ? []
      : [revisionConfigMap(this.#deployment, this.current, template)];
  }

  /** Revision ConfigMaps that nothing needs, but for the newest few. */
  unused(kept: ReadonlySet<string>): ChildObject[] {
    return this.#observed.revisions
      .filter(({ metadata }) => metadata?.deletionTimestamp === undefined)
      .map((configMap) => ({ configMap, revision: configMap.metadata?.labels?.[LABELS.revision] ?? '' }))
      .map(({ configMap, revision }) => ({
        configMap,
        revision: parseRevisionConfigMap(configMap)?.revision ?? revision,
      }))
      .filter(({ revision }) => !kept.has(revision))
      .toSorted(
        (a, b) =>
          timeOf(b.configMap.metadata?.creationTimestamp) - timeOf(a.configMap.metadata?.creationTimestamp) ||
          (a.revision < b.revision ? -1 : 1),
      )
      .slice(REVISIONS_KEPT)
      .map(({ configMap }) => configMap as unknown as ChildObject);
  }

  #place(group: { revision: string; index: number; avoidNodes?: readonly string[] }): GroupPlace {
    const { name, namespace = 'default', uid } = this.#deployment.metadata;
    const avoidNodes = group.avoidNodes ?? [];
    const required = this.#deployment.spec.tensorParallel.interconnect === 'Required';
    return {
      deployment: { name, namespace, uid },
      revision: group.revision,
      index: group.index,
      ...(avoidNodes.length > 0 && { avoidNodes }),
      ...(required && { interconnectRequired: true }),
    };
  }
}
