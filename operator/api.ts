// What the API and its children are called: groups, labels, ports, programs. Everything that writes or reads these names takes them from here.

export const API_GROUP = 'internvl.dev';
export const API_VERSION = 'internvl.dev/v1alpha1';
export const KIND = 'InternVLDeployment';

/** Labels of every child; values are label-safe names from names.ts. */
export const LABELS = {
  name: 'app.kubernetes.io/name',
  instance: 'app.kubernetes.io/instance',
  component: 'app.kubernetes.io/component',
  managedBy: 'app.kubernetes.io/managed-by',
  deployment: `${API_GROUP}/deployment`,
  revision: `${API_GROUP}/revision`,
  replica: `${API_GROUP}/replica`,
  rank: `${API_GROUP}/rank`,
} as const;

export const APP_NAME = 'internvl';
export const MANAGER = 'internvl-operator';

export const COMPONENTS = { runtime: 'runtime', router: 'router' } as const;

/** Executables of the images; the local runner maps them to source files. */
export const PROGRAMS = { runtime: 'internvl-runtime', router: 'internvl-router' } as const;

/** Container ports. A pod with several ranks gives rank k the gRPC port grpc + k and the metrics port metrics + k. */
export const PORTS = { grpc: 50051, metrics: 9090 } as const;

/** Where a rank finds the checkpoint. */
export const MODEL_MOUNT = '/model';
