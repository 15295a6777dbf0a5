// One namespace of the control plane with all that a test of the operator needs: operator processes, simulated routers, fake nodes of its own. What was
// started is ended by `close`.
import { readFile } from 'node:fs/promises';
import { KubeConfig, type V1ConfigMap, type V1Pod } from '@kubernetes/client-node';
import { parse } from 'yaml';
import type { InternVLDeployment } from '../../gen/crd/internvl-deployment.ts';
import { API_VERSION, KIND, LABELS, MANAGER } from '../../operator/api.ts';
import { INTERNVL_DEPLOYMENTS } from '../../operator/caches.ts';
import { ApiClient } from '../../operator/kube/api-client.ts';
import { NODES, PODS } from '../../operator/kube/resources.ts';
import { baseName } from '../../operator/names.ts';
import type { DeploymentStatus } from '../../operator/status.ts';
import type { ControlPlane } from './control-plane.ts';
import { eventually, startOperator, type OperatorProcess } from './operator-process.ts';
import { byGroup, SimulatedRouters } from './simulated-routers.ts';

const NODE = new URL('../cluster/kwok-node.yaml', import.meta.url);

export interface OperatorOptions {
  readonly identity?: string;
  readonly flags?: readonly string[];
  /** Of another way to the API server, or of other rights. */
  readonly kubeconfig?: string;
  /** Watches every namespace. */
  readonly all?: boolean;
}

interface AuditEvent {
  readonly verb: string;
  readonly userAgent?: string;
  readonly user?: { readonly username?: string };
  readonly responseStatus?: { readonly code?: number };
  readonly objectRef?: {
    readonly namespace?: string;
    readonly resource: string;
    readonly subresource?: string;
    readonly name?: string;
  };
}

/** An administrator's client. */
export function adminClient(kubeconfig: string): ApiClient {
  const config = new KubeConfig();
  config.loadFromFile(kubeconfig);
  return ApiClient.fromKubeConfig(config, { userAgent: 'test' });
}

export class TestNamespace {
  readonly name: string;
  readonly plane: ControlPlane;
  readonly client: ApiClient;
  readonly #operators: OperatorProcess[] = [];
  readonly #routers: SimulatedRouters[] = [];
  readonly #nodes: string[] = [];

  private constructor(plane: ControlPlane, name: string) {
    this.plane = plane;
    this.name = name;
    this.client = adminClient(plane.kubeconfig);
  }

  static async make(plane: ControlPlane): Promise<TestNamespace> {
    return new TestNamespace(plane, await plane.namespace());
  }

  async operator({
    identity = 'operator-a',
    flags = [],
    kubeconfig = this.plane.kubeconfig,
    all = false,
  }: OperatorOptions = {}): Promise<OperatorProcess> {
    const lease = all ? ['--lease-namespace', this.name] : [];
    const operator = await startOperator({ kubeconfig }, all ? undefined : this.name, identity, [
      ...lease,
      ...flags,
    ]);
    this.#operators.push(operator);
    return operator;
  }

  routers(name = 'demo'): SimulatedRouters {
    const routers = new SimulatedRouters(this.client, this.name, name);
    this.#routers.push(routers);
    return routers;
  }

  /** Nodes for pods of `onGpus` alone: pods of other tests that stood there would go with them. */
  async nodes(count: number, gpus: number): Promise<string[]> {
    const text = await readFile(NODE, 'utf8');
    const made: string[] = [];
    for (let index = 0; index < count; index++) {
      const name = `${this.name}-${this.#nodes.length}`;
      const node = parse(text.replaceAll('@NODE@', name).replaceAll('@GPUS@', String(gpus))) as {
        metadata: { name: string; labels: Record<string, string> };
        spec?: object;
      };
      node.metadata.labels['pool'] = this.name;
      node.spec = { taints: [{ key: 'pool', value: this.name, effect: 'NoSchedule' }] };
      await this.client.apply(NODES, node, { fieldManager: 'test', force: true });
      this.#nodes.push(name);
      made.push(name);
    }
    return made;
  }

  async kubectl(args: readonly string[], stdin?: string): Promise<string> {
    const { code, stdout, stderr } = await this.plane.kubectl(['-n', this.name, ...args], stdin);
    if (code !== 0) throw new Error(`kubectl ${args.join(' ')}: ${stderr}`);
    return stdout;
  }

  /** Two replicas of two ranks on CPUs, if `spec` does not say otherwise. */
  async apply(spec: Record<string, unknown> = {}, name = 'demo'): Promise<void> {
    const object = {
      apiVersion: API_VERSION,
      kind: KIND,
      metadata: { name, namespace: this.name },
      spec: { model: { source: 'file:///srv/demo' }, replicas: 2, tensorParallel: { size: 2 }, ...spec },
    };
    await this.client.apply(INTERNVL_DEPLOYMENTS, object, { fieldManager: 'test', force: true });
  }

  /** A spec whose ranks take one GPU each of this namespace's own nodes. */
  onGpus(spec: Record<string, unknown> = {}): Record<string, unknown> {
    return {
      replicas: 2,
      tensorParallel: { size: 2, interconnect: 'Preferred' },
      device: { resourceName: 'nvidia.com/gpu' },
      nodeSelector: { pool: this.name },
      tolerations: [{ key: 'pool', value: this.name, effect: 'NoSchedule' }],
      ...spec,
    };
  }

  async patch(patch: object, name = 'demo'): Promise<void> {
    await this.client.mergePatch(INTERNVL_DEPLOYMENTS, `${this.name}/${name}`, patch);
  }

  async deployment(name = 'demo'): Promise<InternVLDeployment> {
    return this.client.get<InternVLDeployment>(INTERNVL_DEPLOYMENTS, `${this.name}/${name}`);
  }

  async status(name = 'demo'): Promise<DeploymentStatus> {
    const { status } = await this.deployment(name);
    if (status === undefined) throw new Error(`${name} has no status yet`);
    return status as unknown as DeploymentStatus;
  }

  /** "True Reason: message" of one condition. */
  async condition(type: string, name = 'demo'): Promise<string> {
    const { conditions } = await this.status(name);
    const found = conditions.find((condition) => condition.type === type);
    if (found === undefined) throw new Error(`${name} has no condition ${type}`);
    return `${found.status} ${found.reason}: ${found.message}`;
  }

  /** Waits until the condition reads so; the failure tells how it read last. */
  async says(type: string, pattern: RegExp, { name = 'demo', timeoutMs = 60_000 } = {}): Promise<string> {
    return eventually(async () => {
      const text = await this.condition(type, name);
      if (pattern.test(text)) return text;
      const { phase, groups } = await this.status(name);
      throw new Error(`${type} is ${text}\nphase ${phase}, groups ${JSON.stringify(groups)}`);
    }, timeoutMs);
  }

  /** Waits until the operator has seen the newest spec and calls it done, and what it deleted is gone. */
  async settled({ name = 'demo', timeoutMs = 90_000 } = {}): Promise<void> {
    await eventually(async () => {
      const { metadata, spec } = await this.deployment(name);
      const { observedGeneration, conditions, replicas, updatedReplicas, phase, groups } =
        await this.status(name);
      const find = (type: string) => conditions.find((condition) => condition.type === type);
      const ready = spec.replicas === 0 || find('Ready')?.status === 'True';
      const done =
        observedGeneration === metadata.generation && ready && find('Progressing')?.reason === 'Complete';
      const leaving = (await this.ranks(name)).filter(({ metadata }) => metadata?.deletionTimestamp);
      if (done && replicas === spec.replicas && updatedReplicas === spec.replicas && leaving.length === 0)
        return;
      throw new Error(
        `not settled: phase ${phase}, ${JSON.stringify(conditions)}, groups ${JSON.stringify(groups)}`,
      );
    }, timeoutMs);
  }

  async ranks(name = 'demo'): Promise<V1Pod[]> {
    const labelSelector = `${LABELS.deployment}=${baseName(name)},${LABELS.component}=runtime`;
    return (await this.client.list<V1Pod>(PODS, { namespace: this.name, labelSelector })).items;
  }

  /** Uids of the rank pods, sorted. */
  async uids(name = 'demo'): Promise<string[]> {
    return (await this.ranks(name)).map(({ metadata }) => metadata?.uid ?? '').toSorted();
  }

  /** Group name -> its pods in rank order. */
  async groups(name = 'demo'): Promise<Map<string, V1Pod[]>> {
    const pods = (await this.ranks(name)).toSorted((a, b) =>
      (a.metadata?.name ?? '') < (b.metadata?.name ?? '') ? -1 : 1,
    );
    return byGroup(pods);
  }

  /** Sets a part of a pod's status, as a kubelet would. */
  async podStatus(pod: V1Pod, status: object): Promise<void> {
    const key = `${this.name}/${pod.metadata?.name ?? ''}`;
    await this.client.strategicMergePatch<V1ConfigMap>(PODS, key, { status }, { subresource: 'status' });
  }

  /** As a kubelet tells of a process that ended. */
  async endRank(pod: V1Pod, exitCode: number, message: string): Promise<void> {
    const at = new Date().toISOString().replace(/\.\d+/, '');
    const terminated = { exitCode, reason: 'Error', message, startedAt: at, finishedAt: at };
    const [status] = pod.status?.containerStatuses ?? [];
    await this.podStatus(pod, {
      phase: 'Failed',
      containerStatuses: [{ name: status?.name, ready: false, state: { running: null, terminated } }],
    });
  }

  /** What operators changed here, "verb resource name" in order; events and leases are left out. From the API server's own log. */
  async audited(): Promise<string[]> {
    const events = await this.#auditEvents();
    return events.flatMap(({ verb, userAgent, objectRef, responseStatus }) => {
      const isWrite = !['get', 'list', 'watch'].includes(verb) && (responseStatus?.code ?? 0) < 300;
      if (!isWrite || userAgent !== MANAGER || objectRef?.namespace !== this.name) return [];
      const { resource, subresource, name = '' } = objectRef;
      if (resource === 'events' || resource === 'leases') return [];
      return [`${verb} ${resource}${subresource === undefined ? '' : `/${subresource}`} ${name}`];
    });
  }

  /** What an account of this namespace asked for and had no right to, here or in the whole cluster. */
  async refusedTo(account: string): Promise<string[]> {
    const user = `system:serviceaccount:${this.name}:${account}`;
    return (await this.#auditEvents())
      .filter(
        (event) => event.user?.username === user && [401, 403].includes(event.responseStatus?.code ?? 0),
      )
      .filter(({ objectRef }) => objectRef?.namespace === undefined || objectRef.namespace === this.name)
      .map(({ verb, objectRef }) => `${verb} ${objectRef?.resource ?? ''} ${objectRef?.name ?? ''}`);
  }

  async #auditEvents(): Promise<AuditEvent[]> {
    const lines = (await readFile(this.plane.auditLog, 'utf8')).split('\n');
    // The last line may still be under way.
    return lines
      .slice(0, -1)
      .flatMap((line) => (line.includes(this.name) ? [JSON.parse(line) as AuditEvent] : []));
  }

  async close(): Promise<void> {
    await Promise.all(this.#operators.map((operator) => operator.stop()));
    await Promise.all(this.#routers.map((routers) => routers.close()));
    await this.plane.kubectl(['delete', 'namespace', this.name, '--wait=false']);
    if (this.#nodes.length > 0) await this.plane.kubectl(['delete', 'node', ...this.#nodes, '--wait=false']);
    this.client.close();
  }
}
