// The router's Deployment and the Service that clients call. Neither says anything of groups or of their revision: routers find the groups
// through the API, so that scaling and rolling out ranks restarts no router.
import type { V1Deployment, V1PodSpec, V1Service, V1ServicePort } from '@kubernetes/client-node';
import type { InternVLDeployment } from '../../gen/crd/internvl-deployment.ts';
import { COMPONENTS, PORTS, PROGRAMS } from '../api.ts';
import { baseName, routerAccountName, routerName, routersConfigMapName } from '../names.ts';
import { bytesOf, millisecondsOf, quantities } from '../quantity.ts';
import { flags } from './flags.ts';
import { childMetadata, componentLabels } from './labels.ts';
import { CONTAINER_SECURITY, POD_SECURITY } from './pod-security.ts';
import { livenessProbe, startupProbe } from './probes.ts';
import { ROUTER_MEMORY } from './router-memory.ts';

/** Endpoints and load balancers go on sending for a moment after a pod began to end. */
const PRE_STOP_SECONDS = 5;
const GRACE_MARGIN_SECONDS = 10;

/** The router's Deployment: a new pod is ready before an old one ends. */
export function routerDeployment(
  deployment: InternVLDeployment,
  config: { readonly routerImage: string },
): V1Deployment {
  const labels = componentLabels(deployment, COMPONENTS.router);
  return {
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: childMetadata(deployment, routerName(deployment.metadata.name), COMPONENTS.router),
    spec: {
      replicas: deployment.spec.router.replicas,
      selector: { matchLabels: labels },
      strategy: { type: 'RollingUpdate', rollingUpdate: { maxUnavailable: 0, maxSurge: 1 } },
      template: { metadata: { labels }, spec: routerPodSpec(deployment, labels, config.routerImage) },
    },
  };
}

function routerPodSpec(
  deployment: InternVLDeployment,
  labels: Record<string, string>,
  defaultImage: string,
): V1PodSpec {
  const { router, rollout, imagePullSecrets, imagePullPolicy } = deployment.spec;
  const drainSeconds = Math.ceil(millisecondsOf(rollout.drainTimeout) / 1000);
  return {
    terminationGracePeriodSeconds: PRE_STOP_SECONDS + drainSeconds + GRACE_MARGIN_SECONDS,
    serviceAccountName: routerAccountName(deployment.metadata.name),
    automountServiceAccountToken: true,
    enableServiceLinks: false,
    securityContext: POD_SECURITY,
    topologySpreadConstraints: [
      {
        maxSkew: 1,
        topologyKey: 'kubernetes.io/hostname',
        whenUnsatisfiable: 'ScheduleAnyway',
        labelSelector: { matchLabels: labels },
      },
    ],
    ...(imagePullSecrets && { imagePullSecrets }),
    containers: [
      {
        name: 'router',
        image: router.image ?? defaultImage,
        ...(imagePullPolicy !== undefined && { imagePullPolicy }),
        command: [PROGRAMS.router],
        args: routerArgs(deployment, discoveryFlags(deployment)),
        env: [
          { name: 'POD_NAME', valueFrom: { fieldRef: { fieldPath: 'metadata.name' } } },
          { name: 'POD_UID', valueFrom: { fieldRef: { fieldPath: 'metadata.uid' } } },
          { name: 'POD_IP', valueFrom: { fieldRef: { fieldPath: 'status.podIP' } } },
          ...Object.entries(ROUTER_MEMORY).map(([name, value]) => ({ name, value })),
        ],
        ports: [
          { name: 'grpc', containerPort: PORTS.grpc },
          { name: 'metrics', containerPort: PORTS.metrics },
        ],
        startupProbe: startupProbe(PORTS.metrics),
        readinessProbe: {
          httpGet: { path: '/readyz', port: PORTS.metrics },
          periodSeconds: 2,
          timeoutSeconds: 2,
        },
        livenessProbe: livenessProbe(PORTS.metrics),
        lifecycle: { preStop: { sleep: { seconds: PRE_STOP_SECONDS } } },
        resources: {
          ...(router.resources?.requests && { requests: quantities(router.resources.requests) }),
          ...(router.resources?.limits && { limits: quantities(router.resources.limits) }),
        },
        securityContext: CONTAINER_SECURITY,
        terminationMessagePolicy: 'FallbackToLogsOnError',
        volumeMounts: [{ name: 'tmp', mountPath: '/tmp' }],
      },
    ],
    volumes: [{ name: 'tmp', emptyDir: { sizeLimit: '256Mi' } }],
  };
}

/** How a router of a cluster finds the groups and where it reports. */
function discoveryFlags(deployment: InternVLDeployment): string[] {
  const { name, namespace } = deployment.metadata;
  return flags({
    namespace: namespace ?? 'default',
    'deployment-label': baseName(name),
    'report-config-map': routersConfigMapName(name),
    'pod-name': '$(POD_NAME)',
    'pod-uid': '$(POD_UID)',
  });
}

/** The router's flags; `discovery` are those that tell where the groups are. */
export function routerArgs(deployment: InternVLDeployment, discovery: readonly string[]): string[] {
  const { router, rollout, model } = deployment.spec;
  return [
    ...flags({ listen: `0.0.0.0:${PORTS.grpc}`, 'metrics-listen': `0.0.0.0:${PORTS.metrics}` }),
    ...discovery,
    ...flags({
      'served-name': model.servedName ?? deployment.metadata.name,
      'queue-max-requests': router.queue.maxRequests,
      'queue-max-bytes': bytesOf(router.queue.maxBytes),
      'queue-max-wait-ms': millisecondsOf(router.queue.maxWait),
      'drain-timeout-ms': millisecondsOf(rollout.drainTimeout),
    }),
  ];
}

/** The Service that clients call. */
export function routerService(deployment: InternVLDeployment): V1Service {
  const { type, grpcPort, metricsPort } = deployment.spec.router.service;
  const ports: V1ServicePort[] = [
    {
      name: 'grpc',
      port: grpcPort,
      targetPort: 'grpc',
      protocol: 'TCP',
      appProtocol: 'kubernetes.io/h2c',
    },
  ];
  if (metricsPort !== undefined)
    ports.push({ name: 'metrics', port: metricsPort, targetPort: 'metrics', protocol: 'TCP' });
  return {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: childMetadata(deployment, routerName(deployment.metadata.name), COMPONENTS.router),
    spec: { type, selector: componentLabels(deployment, COMPONENTS.router), ports },
  };
}
