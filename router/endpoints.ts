// Where replicas come from: a list that never changes, or the pods of a deployment.

import { ANNOTATIONS, LABELS, PORTS } from '../operator/api.ts';

/** One replica that a router should know. */
export interface Endpoint {
  readonly name: string;
  /** HOST:PORT of rank 0. */
  readonly address: string;
  /** Another uid under the same name is another replica. */
  readonly uid: string;
  /** The drain's name while it drains: it gets nothing new until this is undefined again. */
  readonly drain: string | undefined;
}

/** What is read of a pod; the API's own type fits. */
export interface EndpointPod {
  readonly metadata?: {
    readonly name?: string;
    readonly uid?: string;
    readonly labels?: Readonly<Record<string, string>>;
    readonly annotations?: Readonly<Record<string, string>>;
    readonly deletionTimestamp?: string | Date;
  };
  readonly status?: { readonly phase?: string; readonly podIP?: string };
}

/** The replicas of a fixed list, in which a name is all there is to tell them apart. */
export function endpointsFromList(
  replicas: readonly { readonly name: string; readonly address: string }[],
): Endpoint[] {
  return replicas.map(({ name, address }) => ({ name, address, uid: name, drain: undefined }));
}

/**
 * The replicas whose rank-0 pods are there and may serve, by name. A pod without an address yet, one that ended, and one that is being
 * deleted are not among them: the first will be, the others never again.
 */
export function endpointsFromPods(pods: readonly EndpointPod[]): Endpoint[] {
  const endpoints: Endpoint[] = [];
  for (const { metadata, status } of pods) {
    const name = metadata?.labels?.[LABELS.group];
    const rank = metadata?.labels?.[LABELS.rank] ?? '0';
    if (name === undefined || metadata?.uid === undefined || rank !== '0') continue;
    if (metadata.deletionTimestamp !== undefined) continue;
    if (status?.podIP === undefined || status.podIP === '') continue;
    if (status.phase === 'Failed' || status.phase === 'Succeeded') continue;
    endpoints.push({
      name,
      address: `${hostOf(status.podIP)}:${PORTS.grpc}`,
      uid: metadata.uid,
      drain: metadata.annotations?.[ANNOTATIONS.drain],
    });
  }
  return endpoints.sort((a, b) => (a.name === b.name ? compare(a.uid, b.uid) : compare(a.name, b.name)));
}

function hostOf(ip: string): string {
  return ip.includes(':') ? `[${ip}]` : ip;
}

function compare(a: string, b: string): number {
  if (a === b) return 0;
  return a < b ? -1 : 1;
}
