// As JSON: the client's own types call a rule's `from` by another name.
import type { V1NetworkPolicyPort } from '@kubernetes/client-node';
import { COMPONENTS, PORTS } from '../api.ts';
import { ranksPolicyName, routerName } from '../names.ts';
import type { ChildObject } from '../observed.ts';
import { childMetadata, componentLabels, type Owner } from './labels.ts';

/** Ranks of one pod number their ports from the first on. */
const MOST_RANKS = 8;

/** Ranks talk among themselves, answer routers, give metrics to whoever scrapes, and look up names; nothing else reaches or leaves them. */
export function ranksPolicy(owner: Owner): ChildObject {
  const ranks = { podSelector: { matchLabels: componentLabels(owner, COMPONENTS.runtime) } };
  const routers = { podSelector: { matchLabels: componentLabels(owner, COMPONENTS.router) } };
  return {
    apiVersion: 'networking.k8s.io/v1',
    kind: 'NetworkPolicy',
    metadata: childMetadata(owner, ranksPolicyName(owner.metadata.name), COMPONENTS.runtime),
    spec: {
      podSelector: ranks.podSelector,
      policyTypes: ['Ingress', 'Egress'],
      ingress: [
        // Collectives take any free port.
        { from: [ranks] },
        { from: [routers], ports: [tcp(PORTS.grpc)] },
        { ports: [tcp(PORTS.metrics)] },
      ],
      egress: [{ to: [ranks] }, { ports: [dns('UDP'), dns('TCP')] }],
    },
  };
}

/** Routers take requests and scrapes from anywhere and nothing else. What leaves them is open: the API server's address is not ours to know. */
export function routerPolicy(owner: Owner): ChildObject {
  return {
    apiVersion: 'networking.k8s.io/v1',
    kind: 'NetworkPolicy',
    metadata: childMetadata(owner, routerName(owner.metadata.name), COMPONENTS.router),
    spec: {
      podSelector: { matchLabels: componentLabels(owner, COMPONENTS.router) },
      policyTypes: ['Ingress'],
      ingress: [
        {
          ports: [
            { protocol: 'TCP', port: PORTS.grpc },
            { protocol: 'TCP', port: PORTS.metrics },
          ],
        },
      ],
    },
  };
}

function tcp(first: number): V1NetworkPolicyPort {
  return { protocol: 'TCP', port: first, endPort: first + MOST_RANKS - 1 };
}

function dns(protocol: 'UDP' | 'TCP'): V1NetworkPolicyPort {
  return { protocol, port: 53 };
}
