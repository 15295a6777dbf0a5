import type { V1PodDisruptionBudget } from '@kubernetes/client-node';
import { COMPONENTS } from '../api.ts';
import { ranksPolicyName, routerName } from '../names.ts';
import { childMetadata, componentLabels, type Owner } from './labels.ts';

/** More than any number of rank pods. */
const ALL = 100_000;

/**
 * No rank pod may be evicted: one rank less is a whole group less, so the operator moves groups off a cordoned node and evictions wait for it.
 * As a number of pods: a percentage or maxUnavailable is taken of the owner's scale, which counts groups, and would let pods go where a
 * group has more than one.
 */
export function ranksBudget(owner: Owner): V1PodDisruptionBudget {
  return {
    apiVersion: 'policy/v1',
    kind: 'PodDisruptionBudget',
    metadata: childMetadata(owner, ranksPolicyName(owner.metadata.name), COMPONENTS.runtime),
    spec: {
      minAvailable: ALL,
      selector: { matchLabels: componentLabels(owner, COMPONENTS.runtime) },
    },
  };
}

/** One router at a time; for two or more routers, since a single one could then never be evicted. */
export function routerBudget(owner: Owner): V1PodDisruptionBudget {
  return {
    apiVersion: 'policy/v1',
    kind: 'PodDisruptionBudget',
    metadata: childMetadata(owner, routerName(owner.metadata.name), COMPONENTS.router),
    spec: {
      maxUnavailable: 1,
      selector: { matchLabels: componentLabels(owner, COMPONENTS.router) },
      // A router that is not ready serves nobody and must not block a node from being emptied.
      unhealthyPodEvictionPolicy: 'AlwaysAllow',
    },
  };
}
