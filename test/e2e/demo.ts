// The deployment `demo` of examples/demo-cluster.yaml as the API server tells of it.

import type { V1Pod } from '@kubernetes/client-node';
import type { InternVLDeployment } from '../../gen/crd/internvl-deployment.ts';
import type { ApiObject, Kubernetes } from './kubernetes.ts';

export const NAMESPACE = 'default';
export const NAME = 'demo';
export const DEPLOYMENT = `internvldeployment/${NAME}`;
const RANK_PODS = `/api/v1/namespaces/${NAMESPACE}/pods?labelSelector=internvl.dev/deployment%3D${NAME},app.kubernetes.io/component%3Druntime`;
const ROUTER_PODS = `/api/v1/namespaces/${NAMESPACE}/pods?labelSelector=internvl.dev/deployment%3D${NAME},app.kubernetes.io/component%3Drouter`;
const DEPLOYMENTS = `/apis/internvl.dev/v1alpha1/namespaces/${NAMESPACE}/internvldeployments?fieldSelector=metadata.name%3D${NAME}`;

export type Pod = V1Pod & ApiObject;
export type Deployment = InternVLDeployment &
  ApiObject & { readonly metadata: { readonly generation: number } };
type Condition = NonNullable<NonNullable<InternVLDeployment['status']>['conditions']>[number];

export function condition(deployment: Deployment, type: string): Condition | undefined {
  return deployment.status?.conditions?.find((candidate) => candidate.type === type);
}

/** `Type=Status Reason: message` of every condition, one a line. */
export function conditionLines(deployment: Deployment): string {
  return (deployment.status?.conditions ?? [])
    .map(({ type, status, reason, message }) => `${type}=${status} ${reason}: ${message}`)
    .join('\n');
}

/** The group that a rank pod belongs to. */
export function groupOf(pod: Pod): string {
  return pod.metadata.labels?.['internvl.dev/group'] ?? '';
}

/** Group names with the nodes of their pods. */
export function nodesOfGroups(pods: readonly Pod[]): Map<string, Set<string>> {
  const groups = new Map<string, Set<string>>();
  for (const pod of pods)
    groups.set(groupOf(pod), (groups.get(groupOf(pod)) ?? new Set()).add(pod.spec?.nodeName ?? ''));
  return groups;
}

/** What tells that nothing was restarted: every pod's uid and its containers' restarts. */
export function identities(pods: readonly Pod[]): string[] {
  return pods
    .map(({ metadata, status }) => {
      const restarts = status?.containerStatuses?.reduce((sum, { restartCount }) => sum + restartCount, 0);
      return `${metadata.name} ${metadata.uid} restarts ${restarts ?? 0}`;
    })
    .toSorted();
}

export class Demo {
  readonly #kubernetes: Kubernetes;

  constructor(kubernetes: Kubernetes) {
    this.#kubernetes = kubernetes;
  }

  async read(): Promise<Deployment> {
    const [deployment] = await this.#kubernetes.list<Deployment>(DEPLOYMENTS);
    if (deployment === undefined) throw new Error(`there is no deployment ${NAME}`);
    return deployment;
  }

  /** Rank pods that are not being deleted. */
  async pods(): Promise<readonly Pod[]> {
    return (await this.#kubernetes.list<Pod>(RANK_PODS)).filter(isKept);
  }

  async routerPods(): Promise<readonly Pod[]> {
    return (await this.#kubernetes.list<Pod>(ROUTER_PODS)).filter(isKept);
  }

  /** Waits until the deployment is as `decide` says; `decide` sees every state in between, and may remember. */
  async until<Value>(
    what: string,
    decide: (deployment: Deployment) => Value | undefined | false,
    timeoutMs?: number,
  ): Promise<Value> {
    return await this.#kubernetes.until<Deployment, Value>(
      what,
      DEPLOYMENTS,
      ([deployment]) => (deployment === undefined ? undefined : decide(deployment)),
      {
        ...(timeoutMs !== undefined && { timeoutMs }),
        describe: ([deployment]) =>
          deployment === undefined ? 'absent' : JSON.stringify(deployment.status, undefined, 1),
      },
    );
  }

  /** Waits until the status tells of the present spec, and that all of its `replicas` are ready and of the current revision. */
  async ready(replicas: number, timeoutMs = 90_000): Promise<Deployment> {
    return await this.until(
      `${replicas} ready replicas`,
      (deployment) => (isSettled(deployment, replicas) ? deployment : undefined),
      timeoutMs,
    );
  }

  /** Waits until the rank pods are as `decide` says; the ones that are being deleted are among them. */
  async untilPods<Value>(
    what: string,
    decide: (pods: readonly Pod[]) => Value | undefined | false,
    timeoutMs?: number,
  ): Promise<Value> {
    return await this.#kubernetes.until<Pod, Value>(what, RANK_PODS, decide, {
      ...(timeoutMs !== undefined && { timeoutMs }),
      describe: (pods) =>
        pods
          .map(({ metadata, spec, status }) =>
            [metadata.name, spec?.nodeName, status?.phase, metadata.deletionTimestamp].join(' '),
          )
          .join('\n'),
    });
  }

  /** `kubectl patch` of the spec. */
  async patch(spec: unknown): Promise<void> {
    await this.#kubernetes.kubectl('patch', DEPLOYMENT, '--type=merge', '-p', JSON.stringify({ spec }));
  }

  async scale(replicas: number): Promise<void> {
    await this.#kubernetes.kubectl('scale', DEPLOYMENT, `--replicas=${replicas}`);
  }

  /** The line of `kubectl get`, by column. */
  async columns(): Promise<Record<string, string>> {
    const text = await this.#kubernetes.kubectl('get', DEPLOYMENT);
    const [head = '', line = ''] = text.split('\n');
    const names = head.trim().split(/ {2,}|\s+/);
    // Every value is one word, or the columns could not be told apart.
    const values = line.trim().split(/\s+/);
    return Object.fromEntries(names.map((name, index) => [name, values[index] ?? '']));
  }
}

function isKept({ metadata }: Pod): boolean {
  return (metadata as { readonly deletionTimestamp?: unknown }).deletionTimestamp === undefined;
}

function isSettled(deployment: Deployment, replicas: number): boolean {
  const { status, metadata } = deployment;
  if (status?.observedGeneration !== metadata.generation) return false;
  const { replicas: made, readyReplicas, updatedReplicas } = status as Record<string, unknown>;
  return (
    made === replicas &&
    readyReplicas === replicas &&
    updatedReplicas === replicas &&
    (replicas === 0 || condition(deployment, 'Ready')?.status === 'True')
  );
}
