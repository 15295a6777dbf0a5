import type { V1Deployment, V1Service } from '@kubernetes/client-node';
import type { InternVLDeployment } from '../../gen/crd/internvl-deployment.ts';
import { COMPONENTS, PORTS, PROGRAMS } from '../api.ts';
import { ranksServiceName, routerName } from '../names.ts';
import { bytesOf, millisecondsOf } from '../quantity.ts';
import { componentLabels, ownerReferences } from './labels.ts';
import { livenessProbe } from './liveness-probe.ts';
import { flags, quantities } from './rank-pods.ts';

/** A replica as the router knows it: its name and rank 0's HOST:PORT. */
export interface RouterTarget {
  readonly name: string;
  readonly address: string;
}

export interface RouterPlace {
  readonly namespace: string;
  readonly image: string;
  readonly targets: readonly RouterTarget[];
}

/** The router's Deployment. */
export function routerDeployment(deployment: InternVLDeployment, place: RouterPlace): V1Deployment {
  const { router, rollout, imagePullSecrets } = deployment.spec;
  const labels = componentLabels(deployment, COMPONENTS.router);
  const name = routerName(deployment.metadata.name);
  const drainTimeoutMs = millisecondsOf(rollout.drainTimeout);
  return {
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: { name, namespace: place.namespace, labels, ...ownerReferences(deployment) },
    spec: {
      replicas: router.replicas,
      selector: { matchLabels: labels },
      template: {
        metadata: { labels },
        spec: {
          terminationGracePeriodSeconds: Math.ceil(drainTimeoutMs / 1000) + 10,
          automountServiceAccountToken: false,
          enableServiceLinks: false,
          securityContext: { runAsNonRoot: true, seccompProfile: { type: 'RuntimeDefault' } },
          ...(imagePullSecrets && { imagePullSecrets }),
          containers: [
            {
              name: 'router',
              image: place.image,
              command: [PROGRAMS.router],
              args: routerArgs(deployment, place, drainTimeoutMs),
              ports: [
                { name: 'grpc', containerPort: PORTS.grpc },
                { name: 'metrics', containerPort: PORTS.metrics },
              ],
              readinessProbe: { grpc: { port: PORTS.grpc }, periodSeconds: 5, timeoutSeconds: 2 },
              livenessProbe: livenessProbe(PORTS.metrics),
              resources: {
                ...(router.resources?.requests && { requests: quantities(router.resources.requests) }),
                ...(router.resources?.limits && { limits: quantities(router.resources.limits) }),
              },
              securityContext: {
                allowPrivilegeEscalation: false,
                readOnlyRootFilesystem: true,
                capabilities: { drop: ['ALL'] },
              },
            },
          ],
        },
      },
    },
  };
}

function routerArgs(deployment: InternVLDeployment, place: RouterPlace, drainTimeoutMs: number): string[] {
  const { router, model, engine } = deployment.spec;
  return [
    ...flags({ listen: `0.0.0.0:${PORTS.grpc}`, 'metrics-listen': `0.0.0.0:${PORTS.metrics}` }),
    ...place.targets.flatMap(({ name, address }) => ['--replica', `${name}=${address}`]),
    ...flags({
      'served-name': model.servedName ?? deployment.metadata.name,
      'queue-max-requests': router.queue.maxRequests,
      'queue-max-bytes': bytesOf(router.queue.maxBytes),
      'queue-max-wait-ms': millisecondsOf(router.queue.maxWait),
      'max-images': engine.limits.maxImages,
      'drain-timeout-ms': drainTimeoutMs,
    }),
  ];
}

/** The Service that clients call. */
export function routerService(deployment: InternVLDeployment, namespace: string): V1Service {
  const { type, grpcPort } = deployment.spec.router.service;
  const labels = componentLabels(deployment, COMPONENTS.router);
  return {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: {
      name: routerName(deployment.metadata.name),
      namespace,
      labels,
      ...ownerReferences(deployment),
    },
    spec: {
      type,
      selector: labels,
      ports: [{ name: 'grpc', port: grpcPort, targetPort: 'grpc', appProtocol: 'kubernetes.io/h2c' }],
    },
  };
}

/** The headless Service that gives rank pods stable host names, from before they are ready: ranks meet while they load. */
export function ranksService(deployment: InternVLDeployment, namespace: string): V1Service {
  const labels = componentLabels(deployment, COMPONENTS.runtime);
  return {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: {
      name: ranksServiceName(deployment.metadata.name),
      namespace,
      labels,
      ...ownerReferences(deployment),
    },
    spec: {
      clusterIP: 'None',
      publishNotReadyAddresses: true,
      selector: labels,
      ports: [{ name: 'grpc', port: PORTS.grpc }],
    },
  };
}
