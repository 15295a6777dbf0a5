// Where the pods of a group may run.
import type { V1Affinity, V1Toleration } from '@kubernetes/client-node';
import { LABELS } from '../api.ts';
import type { RevisionTemplate } from '../revision.ts';
import { groupName, type GroupPlace } from './group-place.ts';

const HOST = 'kubernetes.io/hostname';
/** A group without one of its nodes serves nobody; Kubernetes' own 300 s would hold its pods for nothing. */
const LOST_NODE_SECONDS = 30;
const LOST_NODE_TAINTS = ['node.kubernetes.io/not-ready', 'node.kubernetes.io/unreachable'];

type NodeDemand = { key: string; operator: string; values?: string[] };

/** One node for all ranks, the nodes that the deployment asks for, and none of those to be avoided. */
export function affinity(template: RevisionTemplate, place: GroupPlace): V1Affinity | undefined {
  const nodes = nodeAffinity(template, place);
  const ranks = rankAffinity(template, place);
  return nodes === undefined && ranks === undefined ? undefined : { ...nodes, ...ranks };
}

function rankAffinity(
  template: RevisionTemplate,
  place: GroupPlace,
): Pick<V1Affinity, 'podAffinity'> | undefined {
  const { size, topology, interconnect } = template.spec.tensorParallel;
  if (size === 1 || topology === 'SinglePod') return undefined;
  const labelSelector = {
    matchExpressions: [{ key: LABELS.group, operator: 'In', values: [groupName(place)] }],
  };
  const term = { labelSelector, topologyKey: HOST };
  return interconnect === 'Any'
    ? {
        podAffinity: {
          preferredDuringSchedulingIgnoredDuringExecution: [{ weight: 100, podAffinityTerm: term }],
        },
      }
    : { podAffinity: { requiredDuringSchedulingIgnoredDuringExecution: [term] } };
}

function nodeAffinity(
  template: RevisionTemplate,
  place: GroupPlace,
): Pick<V1Affinity, 'nodeAffinity'> | undefined {
  const asked = template.spec.affinity?.nodeAffinity;
  const avoided = place.avoidNodes ?? [];
  // A field's requirement takes one value only.
  const matchFields = avoided.map((node) => ({ key: 'metadata.name', operator: 'NotIn', values: [node] }));
  const terms: { matchExpressions?: NodeDemand[] }[] =
    asked?.requiredDuringSchedulingIgnoredDuringExecution?.nodeSelectorTerms ?? [];
  // Terms are alternatives, so the nodes to avoid go into each.
  const required =
    avoided.length === 0
      ? terms
      : (terms.length === 0 ? [{}] : terms).map((term) => ({ ...term, matchFields }));
  const preferred = asked?.preferredDuringSchedulingIgnoredDuringExecution ?? [];
  if (required.length === 0 && preferred.length === 0) return undefined;
  return {
    nodeAffinity: {
      ...(required.length > 0 && {
        requiredDuringSchedulingIgnoredDuringExecution: { nodeSelectorTerms: required },
      }),
      ...(preferred.length > 0 && { preferredDuringSchedulingIgnoredDuringExecution: preferred }),
    },
  };
}

/** The deployment's own, and short ones for lost nodes where it says nothing of those. */
export function tolerations(template: RevisionTemplate): V1Toleration[] {
  const asked = template.spec.tolerations ?? [];
  const lost = LOST_NODE_TAINTS.filter((taint) => !asked.some(({ key }) => key === taint));
  return [
    ...asked,
    ...lost.map((key) => ({
      key,
      operator: 'Exists',
      effect: 'NoExecute',
      tolerationSeconds: LOST_NODE_SECONDS,
    })),
  ];
}
