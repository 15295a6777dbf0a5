// What the API and its children are called: groups, labels, ports, programs. Everything that writes or reads these names takes them from here.

export const API_GROUP = 'internvl.dev';
export const API_VERSION = 'internvl.dev/v1alpha1';
export const KIND = 'InternVLDeployment';
export const PLURAL = 'internvldeployments';

/** Labels of every child; values are label-safe names from names.ts. */
export const LABELS = {
  name: 'app.kubernetes.io/name',
  instance: 'app.kubernetes.io/instance',
  component: 'app.kubernetes.io/component',
  managedBy: 'app.kubernetes.io/managed-by',
  deployment: `${API_GROUP}/deployment`,
  revision: `${API_GROUP}/revision`,
  /** The group's index within its revision. */
  replica: `${API_GROUP}/replica`,
  rank: `${API_GROUP}/rank`,
  /** replicaName: one value for each tensor-parallel group. */
  group: `${API_GROUP}/group`,
} as const;

export const ANNOTATIONS = {
  /** On a deployment, "true": nothing is written for it until the annotation goes. */
  paused: `${API_GROUP}/paused`,
  /** On a rank-0 pod, the RFC 3339 time at which its group's drain began; taking it away undoes the drain. */
  drain: `${API_GROUP}/drain`,
  /** On an applied child, the hash of what was applied: tells when a field was taken away. */
  appliedHash: `${API_GROUP}/applied-hash`,
} as const;

/** Readiness gate of rank-0 pods (of the one pod for SinglePod): a router has had a probe generation through all ranks. */
export const ROUTER_ACKNOWLEDGED = `${API_GROUP}/RouterAcknowledged`;

export const APP_NAME = 'internvl';
export const MANAGER = 'internvl-operator';
/** Field managers of server-side apply; status has its own so that neither takes fields from the other. */
export const FIELD_MANAGER = MANAGER;
export const STATUS_FIELD_MANAGER = `${MANAGER}-status`;

export const COMPONENTS = {
  runtime: 'runtime',
  router: 'router',
  revision: 'revision',
  reports: 'reports',
} as const;

/** Executables of the images; the local runner maps them to source files. */
export const PROGRAMS = { runtime: 'internvl-runtime', router: 'internvl-router' } as const;

/** Container ports. A pod with several ranks gives rank k the gRPC port grpc + k and the metrics port metrics + k. */
export const PORTS = { grpc: 50051, metrics: 9090 } as const;

/** Where a rank finds the checkpoint. */
export const MODEL_MOUNT = '/model';

/** Conditions of a deployment; positive, except Degraded. */
export const CONDITIONS = {
  ready: 'Ready',
  available: 'Available',
  progressing: 'Progressing',
  modelLoaded: 'ModelLoaded',
  routerReady: 'RouterReady',
  interconnectVerified: 'InterconnectVerified',
  degraded: 'Degraded',
} as const;
