// A small cluster that a plan can be carried out on: nodes with devices, a scheduler, kubelets that load for a while, routers that report and drain. Seeded;
// its clock is a number. What is wrong is collected in `violations`, so that a test can say all of it at once.
import type { V1ConfigMap, V1Pod } from '@kubernetes/client-node';
import type { InternVLDeployment } from '../../gen/crd/internvl-deployment.ts';
import { ANNOTATIONS, LABELS, ROUTER_ACKNOWLEDGED } from '../../operator/api.ts';
import { essentialsOfPod } from '../../operator/caches.ts';
import type {
  ChildObject,
  Observed,
  ObservedNode,
  ReplicaReport,
  RouterReport,
  UnmadeGroup,
} from '../../operator/observed.ts';
import type { Plan } from '../../operator/plan.ts';

export const GOOD_IMAGES = ['runtime:1', 'runtime:2', 'runtime:3'];
export const BAD_IMAGES = ['missing:1', 'crash:1', 'config:1', 'hang:1'];
const KUBELET_NOTICES_MS = 1_000;
const LOAD_MS = 8_000;
const ROUTER_LAG_MS = 400;

interface SimPod {
  readonly object: V1Pod;
  readonly group: string;
  readonly rank: number;
  readonly size: number;
  readonly image: string;
  readonly uid: string;
  createdAt: number;
  node: string | undefined;
  startedAt: number;
  loadedAt: number;
  deletedAt: number;
  exit: { code: number; at: number } | undefined;
  drain: string | undefined;
  gate: { status: string; lastProbeTime?: string; lastTransitionTime: string } | undefined;
  waitingReason: string | undefined;
}

interface SimNode {
  readonly devices: number;
  ready: boolean;
  schedulable: boolean;
}

/** What one router knows of one rank-0 pod: its view lags behind the cluster by ROUTER_LAG_MS. */
interface RouterView {
  state: ReplicaReport['state'];
  drain: string | undefined;
  inFlight: number;
  /** When the work under way ends. */
  doneAt: number;
  seenDrainAt: number | undefined;
}

export class SimulatedCluster {
  now = Date.UTC(2026, 0, 1);
  readonly nodes = new Map<string, SimNode>();
  readonly pods = new Map<string, SimPod>();
  readonly violations: string[] = [];
  readonly configMaps = new Map<string, V1ConfigMap>();
  readonly routers = ['router-a', 'router-b'];
  readonly #views = new Map<string, Map<string, RouterView>>();
  readonly #random: () => number;
  #uid = 0;
  /** Groups that failed or were interfered with: their work may be lost. */
  readonly excused = new Set<string>();
  /** Longest time a request takes, so that some outlive the drain. */
  longestRequestMs = 4_000;
  traffic = true;
  /** Pods that the API server lets there be. */
  quota = Number.POSITIVE_INFINITY;
  readonly unmade = new Map<string, UnmadeGroup>();
  lost = 0;

  constructor(random: () => number, nodes: readonly number[]) {
    this.#random = random;
    for (const [index, devices] of nodes.entries())
      this.nodes.set(`node-${index}`, { devices, ready: true, schedulable: true });
    for (const router of this.routers) this.#views.set(router, new Map());
  }

  get iso(): string {
    return new Date(this.now).toISOString();
  }

  /** Moves the world on by `ms`. */
  tick(ms: number): void {
    this.now += ms;
    this.#schedule();
    this.#kubelets();
    this.#routers();
  }

  #schedule(): void {
    for (const pod of this.pods.values()) {
      if (pod.node !== undefined || pod.deletedAt > 0) continue;
      const peers = [...this.pods.values()].filter(({ group }) => group === pod.group);
      const bound = peers.find(({ node }) => node !== undefined)?.node;
      const avoid = new Set(this.#avoided(pod));
      for (const [name, node] of this.nodes) {
        if (!node.ready || !node.schedulable || (bound !== undefined && bound !== name) || avoid.has(name))
          continue;
        if (this.used(name) >= node.devices) continue;
        pod.node = name;
        break;
      }
    }
  }

  #avoided({ object }: SimPod): string[] {
    const terms =
      object.spec?.affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution?.nodeSelectorTerms;
    return (terms ?? []).flatMap((term) =>
      [...(term.matchExpressions ?? []), ...(term.matchFields ?? [])]
        .filter(({ operator }) => operator === 'NotIn')
        .flatMap(({ values }) => values ?? []),
    );
  }

  used(node: string): number {
    return [...this.pods.values()].filter((pod) => pod.node === node && pod.exit === undefined).length;
  }

  #kubelets(): void {
    for (const pod of this.pods.values()) {
      const node = pod.node === undefined ? undefined : this.nodes.get(pod.node);
      if (pod.deletedAt > 0) {
        const gone =
          pod.node === undefined || (node?.ready === true && this.now - pod.deletedAt >= KUBELET_NOTICES_MS);
        if (gone) this.pods.delete(pod.object.metadata?.name ?? '');
        continue;
      }
      if (node?.ready !== true || pod.exit !== undefined) continue;
      if (pod.image.startsWith('missing')) pod.waitingReason = 'ImagePullBackOff';
      else if (pod.startedAt === 0) this.#start(pod);
      else this.#run(pod);
    }
  }

  #start(pod: SimPod): void {
    pod.startedAt = this.now;
  }

  #run(pod: SimPod): void {
    const age = this.now - pod.startedAt;
    if (pod.image.startsWith('crash') && age > 2_000) pod.exit = { code: 1, at: this.now };
    if (pod.image.startsWith('config') && age > 1_000) pod.exit = { code: 2, at: this.now };
    const peers = this.#peers(pod);
    const lostPeer = peers.some((peer) => peer.exit !== undefined || peer.deletedAt > 0);
    if (pod.exit === undefined && lostPeer && age > 1_000) pod.exit = { code: 3, at: this.now };
    if (pod.image.startsWith('hang') || peers.length < pod.size - 1) return;
    const allStarted = peers.every(({ startedAt }) => startedAt > 0);
    if (allStarted && age >= LOAD_MS && pod.loadedAt === 0 && pod.exit === undefined) pod.loadedAt = this.now;
  }

  #peers(pod: SimPod): SimPod[] {
    return [...this.pods.values()].filter((other) => other.group === pod.group && other !== pod);
  }

  serves(leader: SimPod): boolean {
    const pods = [leader, ...this.#peers(leader)];
    const up = ({ node, loadedAt, exit, deletedAt }: SimPod): boolean =>
      loadedAt > 0 && exit === undefined && deletedAt === 0 && this.nodes.get(node ?? '')?.ready === true;
    return pods.length === leader.size && pods.every(up);
  }

  #routers(): void {
    for (const views of this.#views.values()) {
      const leaders = [...this.pods.values()].filter(({ rank }) => rank === 0);
      for (const uid of views.keys())
        if (!leaders.some((leader) => leader.uid === uid)) this.#gone(views, uid, undefined);
      for (const leader of leaders) this.#route(views, leader);
    }
  }

  #route(views: Map<string, RouterView>, leader: SimPod): void {
    const view = views.get(leader.uid) ?? {
      state: 'connecting',
      drain: undefined,
      inFlight: 0,
      doneAt: 0,
      seenDrainAt: undefined,
    };
    views.set(leader.uid, view);
    if (!this.serves(leader)) {
      if (view.inFlight > 0) this.#gone(views, leader.uid, leader);
      view.inFlight = 0;
      if (view.state === 'ready') view.state = 'ejected';
      return;
    }
    if (view.inFlight > 0 && this.now >= view.doneAt) view.inFlight = 0;
    if (leader.drain !== view.drain) {
      view.seenDrainAt ??= this.now;
      if (this.now - view.seenDrainAt >= ROUTER_LAG_MS * this.#random()) {
        view.drain = leader.drain;
        view.seenDrainAt = undefined;
        view.state = leader.drain === undefined ? 'probing' : 'draining';
      }
    } else if (leader.drain !== undefined) view.state = view.inFlight > 0 ? 'draining' : 'drained';
    else if (view.state === 'probing') view.state = 'ready';
    else if (view.state !== 'ready') view.state = 'probing';
    if (view.state === 'ready' && this.traffic && view.inFlight === 0 && this.#random() < 0.5) {
      view.inFlight = 1;
      view.doneAt = this.now + this.#random() * this.longestRequestMs;
    }
  }

  #gone(views: Map<string, RouterView>, uid: string, leader: SimPod | undefined): void {
    const view = views.get(uid);
    if (leader === undefined) views.delete(uid);
    if ((view?.inFlight ?? 0) === 0) return;
    const at = view?.drain === undefined ? Number.NaN : Date.parse(view.drain);
    const overdue = this.now - at >= 20_000;
    if (this.excused.has(uid) || overdue) return;
    this.lost += 1;
    this.violations.push(`a request on ${leader?.group ?? uid} was lost`);
  }

  /** Nothing that happens to this group from now on is the operator's doing. */
  excuse(group: string): void {
    for (const pod of this.pods.values()) if (pod.group === group) this.excused.add(pod.uid);
  }

  inFlight(leaderUid: string): number {
    return [...this.#views.values()].reduce((sum, views) => sum + (views.get(leaderUid)?.inFlight ?? 0), 0);
  }

  reports(): RouterReport[] {
    const leaders = [...this.pods.values()].filter(({ rank }) => rank === 0);
    return this.routers.map((router) => {
      const views = this.#views.get(router);
      const replicas = leaders.flatMap((leader): [string, ReplicaReport][] => {
        const view = views?.get(leader.uid);
        if (view === undefined) return [];
        const drain = view.state === 'draining' || view.state === 'drained' ? view.drain : undefined;
        return [
          [
            leader.group,
            { podUid: leader.uid, state: view.state, message: '', ...(drain !== undefined && { drain }) },
          ],
        ];
      });
      return { router, routerUid: `uid-${router}`, replicas: Object.fromEntries(replicas) };
    });
  }

  podObjects(): V1Pod[] {
    return [...this.pods.values()].map((pod) => this.#object(pod));
  }

  nodeObjects(): Map<string, ObservedNode> {
    return new Map([...this.nodes].map(([name, { ready, schedulable }]) => [name, { ready, schedulable }]));
  }

  observed(parts: Partial<Observed> = {}): Observed {
    return {
      // No more than the operator's caches keep.
      pods: this.podObjects().map(essentialsOfPod),
      routerPods: this.routers.map((name) => routerPod(name)),
      reports: this.reports(),
      revisions: [...this.configMaps.values()].filter(
        ({ metadata }) => metadata?.labels?.[LABELS.revision] !== undefined,
      ),
      failures: [...this.configMaps.values()].find(({ metadata }) => metadata?.name?.endsWith('-failures')),
      nodes: this.nodeObjects(),
      children: [],
      unmade: new Map(this.unmade),
      ...parts,
    };
  }

  #object(pod: SimPod): V1Pod {
    const time = (at: number): string => new Date(at).toISOString();
    const state =
      pod.exit !== undefined
        ? {
            terminated: {
              exitCode: pod.exit.code,
              reason: pod.exit.code === 0 ? 'Completed' : 'Error',
              message: `rank ${pod.rank} says why`,
              startedAt: time(pod.startedAt),
              finishedAt: time(pod.exit.at),
            },
          }
        : pod.startedAt > 0
          ? { running: { startedAt: time(pod.startedAt) } }
          : { waiting: { reason: pod.waitingReason ?? 'ContainerCreating' } };
    const up = pod.loadedAt > 0 && pod.exit === undefined;
    const conditions = [
      pod.node === undefined
        ? {
            type: 'PodScheduled',
            status: 'False',
            reason: 'Unschedulable',
            message: '0/2 nodes are available',
          }
        : { type: 'PodScheduled', status: 'True', lastTransitionTime: time(pod.createdAt) },
      {
        type: 'ContainersReady',
        status: up ? 'True' : 'False',
        lastTransitionTime: time(pod.loadedAt || pod.createdAt),
      },
      ...(pod.gate === undefined ? [] : [{ type: ROUTER_ACKNOWLEDGED, ...pod.gate }]),
    ];
    return {
      ...plain(pod.object),
      metadata: {
        ...plain(pod.object.metadata),
        uid: pod.uid,
        creationTimestamp: time(pod.createdAt) as unknown as Date,
        ...(pod.deletedAt > 0 && { deletionTimestamp: time(pod.deletedAt + 40_000) as unknown as Date }),
        annotations: pod.drain === undefined ? {} : { [ANNOTATIONS.drain]: pod.drain },
      },
      spec: {
        ...plain(pod.object.spec),
        containers: pod.object.spec?.containers ?? [],
        ...(pod.node !== undefined && { nodeName: pod.node }),
      },
      status: {
        phase:
          pod.exit !== undefined
            ? pod.exit.code === 0
              ? 'Succeeded'
              : 'Failed'
            : pod.startedAt > 0
              ? 'Running'
              : 'Pending',
        conditions: conditions as never,
        containerStatuses: [{ name: 'rank', state } as never],
      },
    };
  }

  /** Carries out a plan in its order; `mayWrite` false = the operator dies there. */
  carryOut(plan: Plan, mayWrite: () => boolean): number {
    let writes = 0;
    const write = (action: () => void): boolean => {
      if (!mayWrite()) return false;
      writes += 1;
      action();
      return true;
    };
    for (const child of plan.apply)
      if (
        child.kind === 'ConfigMap' &&
        !this.configMaps.has(child.metadata.name) &&
        !write(() => this.#apply(child))
      )
        return writes;
    const { failures } = plan;
    if (failures !== undefined && !write(() => this.#apply(failures))) return writes;
    for (const { pod, condition } of plan.gates)
      if (!write(() => this.#byUid(pod, (sim) => (sim.gate = condition as never)))) return writes;
    for (const { pod, since } of plan.drain)
      if (!write(() => this.#byUid(pod, (sim) => (sim.drain = since)))) return writes;
    for (const { pod } of plan.remove)
      if (!write(() => this.#byUid(pod, (sim) => this.#remove(sim)))) return writes;
    for (const { pods, revision } of plan.create)
      for (const pod of pods) if (!write(() => this.#create(pod, pods.length, revision))) return writes;
    for (const name of this.unmade.keys())
      if (!plan.create.some((group) => group.name === name)) this.unmade.delete(name);
    for (const child of plan.prune)
      if (!write(() => this.configMaps.delete(child.metadata.name))) return writes;
    return writes;
  }

  #byUid(pod: V1Pod, action: (sim: SimPod) => void): void {
    const sim = this.pods.get(pod.metadata?.name ?? '');
    if (sim !== undefined && sim.uid === pod.metadata?.uid) action(sim);
  }

  #remove(sim: SimPod): void {
    if (sim.deletedAt === 0) sim.deletedAt = this.now;
    const leader = [...this.pods.values()].find((pod) => pod.group === sim.group && pod.rank === 0);
    if (leader === undefined || this.excused.has(leader.uid) || !this.#wasServing(leader)) return;
    const overdue = leader.drain !== undefined && this.now - Date.parse(leader.drain) >= 20_000;
    if (this.inFlight(leader.uid) > 0 && !overdue)
      this.violations.push(`${sim.group} was deleted with work on it`);
  }

  /** Served until this very deletion. */
  #wasServing(leader: SimPod): boolean {
    return [leader, ...this.#peers(leader)].every(({ loadedAt, exit }) => loadedAt > 0 && exit === undefined);
  }

  #create(pod: V1Pod, size: number, _revision: string): void {
    const name = pod.metadata?.name ?? '';
    if (this.pods.has(name)) return; // 409 AlreadyExists
    const group = pod.metadata?.labels?.[LABELS.group] ?? '';
    if (this.pods.size >= this.quota) {
      if (!this.unmade.has(group))
        this.unmade.set(group, { since: this.now, message: 'exceeded quota', refused: true });
      return;
    }
    const whole = Number(
      pod.spec?.containers[0]?.args?.[pod.spec.containers[0].args.indexOf('--world-size') + 1] ?? size,
    );
    for (const peer of this.pods.values())
      if (peer.group === group && (peer.deletedAt > 0 || peer.exit !== undefined))
        this.violations.push(`${name} was made beside the end of an earlier attempt`);
    this.pods.set(name, {
      object: pod,
      group,
      rank: Number(pod.metadata?.labels?.[LABELS.rank] ?? 0),
      size: whole,
      image: pod.spec?.containers[0]?.image ?? '',
      uid: `uid-${++this.#uid}`,
      createdAt: this.now,
      node: undefined,
      startedAt: 0,
      loadedAt: 0,
      deletedAt: 0,
      exit: undefined,
      drain: undefined,
      gate: undefined,
      waitingReason: undefined,
    });
  }

  #apply(child: ChildObject): void {
    const object = structuredClone(child) as unknown as V1ConfigMap;
    this.configMaps.set(child.metadata.name, {
      ...plain(object),
      metadata: { ...plain(object.metadata), creationTimestamp: this.iso as unknown as Date },
    });
  }

  /** Groups that have pods not being deleted. */
  groups(): Map<string, SimPod[]> {
    const groups = new Map<string, SimPod[]>();
    for (const pod of this.pods.values()) groups.set(pod.group, [...(groups.get(pod.group) ?? []), pod]);
    return groups;
  }

  /** Groups that routers may use: serving, acknowledged, not draining. */
  readyGroups(): string[] {
    return [...this.pods.values()]
      .filter(
        (pod) => pod.rank === 0 && pod.drain === undefined && pod.gate?.status === 'True' && this.serves(pod),
      )
      .map(({ group }) => group);
  }
}

/** The client's models are classes by type alone. */
export function plain<T extends object>(model: T | undefined): { [K in keyof T]: T[K] } {
  return model ?? ({} as T);
}

export function routerPod(name: string): V1Pod {
  return {
    metadata: { name, uid: `uid-${name}`, labels: { [LABELS.component]: 'router' } },
    status: { phase: 'Running', conditions: [{ type: 'Ready', status: 'True' }] },
  };
}

export function withSpec(
  deployment: InternVLDeployment,
  spec: Partial<InternVLDeployment['spec']>,
): InternVLDeployment {
  return { ...deployment, spec: { ...deployment.spec, ...spec } };
}
