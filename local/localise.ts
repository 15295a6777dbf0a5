// From planned pods to processes of this machine. Pure: cluster addresses become 127.0.0.1 with the given ports, volumes become the
// directories behind them, programs become source files. The flags stay what the planner wrote.
import type { V1Container, V1Deployment, V1Pod, V1PodSpec } from '@kubernetes/client-node';
import { PROGRAMS } from '../operator/api.ts';
import type { Plan } from '../operator/plan.ts';

/** One process to run. */
export interface LocalProcess {
  readonly name: string;
  /** Source file, relative to the package. */
  readonly program: string;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  /** HOST:PORT of its gRPC server and of its metrics (empty = none). */
  readonly grpc: string;
  readonly metrics: string;
}

/** Processes that live and die together: the ranks of one replica, or a router alone. */
export interface LocalGroup {
  readonly name: string;
  readonly processes: readonly LocalProcess[];
}

export interface LocalPlan {
  readonly router: LocalGroup;
  readonly replicas: readonly LocalGroup[];
}

export interface LocaliseOptions {
  /** Two for each rank, as many as `portsNeeded` says. */
  readonly ports: readonly number[];
  /** HOST:PORT of the router's gRPC and metrics servers. */
  readonly routerGrpc: string;
  readonly routerMetrics: string;
  /** Cores that all ranks of this machine share. */
  readonly cores: number;
}

const SOURCES: Readonly<Record<string, string>> = {
  [PROGRAMS.runtime]: 'runtime/main.ts',
  [PROGRAMS.router]: 'router/main.ts',
};

const LOOPBACK = '127.0.0.1';
/** The runtime's own default share, here divided among all ranks of the machine. */
const KV_CACHE_FRACTION = 0.3;

/** How many ports `localise` takes: a gRPC and a metrics port a rank. */
export function portsNeeded(plan: Plan): number {
  return 2 * rankContainers(plan).length;
}

/** The processes of a plan on this machine. */
export function localise(plan: Plan, options: LocaliseOptions): LocalPlan {
  const ranks = rankContainers(plan);
  if (options.ports.length < portsNeeded(plan))
    throw new RangeError(`${options.ports.length} ports for ${ranks.length} ranks`);
  const local = new Map<V1Container, { grpc: string; metrics: string }>();
  const addresses = new Map<string, string>();
  for (const [index, { pod, container }] of ranks.entries()) {
    const grpc = `${LOOPBACK}:${options.ports[2 * index]}`;
    local.set(container, { grpc, metrics: `${LOOPBACK}:${options.ports[2 * index + 1]}` });
    addresses.set(clusterAddress(pod, portNamed(container, 'grpc')), grpc);
  }

  const replicas = plan.create.map((replica): LocalGroup => ({
    name: replica.name,
    processes: replica.pods
      .flatMap((pod) => containersOf(pod).map((container) => ({ pod, container })))
      .map(({ pod, container }, rank) => {
        const own = local.get(container);
        if (own === undefined) throw new Error(`${replica.name}: rank ${rank} has no ports`);
        const process = processOf(container, pod.spec, {
          name: `${replica.name}-${rank}`,
          ...own,
          addresses,
        });
        return { ...process, args: shareMachine(process.args, ranks.length, options.cores) };
      }),
  }));

  const routerSpec = plannedRouter(plan)?.spec?.template.spec;
  const routerContainer = routerSpec?.containers[0];
  if (routerContainer === undefined) throw new Error('the planned router has no container');
  const targets = plan.create.flatMap(({ name, address }) => ['--replica', `${name}=${address}`]);
  const staticArgs = [...withoutDiscovery(routerContainer.args ?? []), ...targets];
  const router = processOf(Object.assign({}, routerContainer, { args: staticArgs }), routerSpec, {
    name: 'router',
    grpc: options.routerGrpc,
    metrics: options.routerMetrics,
    addresses,
  });
  return { router: { name: 'router', processes: [router] }, replicas };
}

function plannedRouter(plan: Plan): V1Deployment | undefined {
  const child = plan.apply.find(({ kind }) => kind === 'Deployment');
  return child as unknown as V1Deployment | undefined;
}

/** A cluster's router finds its replicas and its own name through the API server; here it is told of them. */
const DISCOVERY_FLAGS = new Set([
  '--namespace',
  '--deployment-label',
  '--report-config-map',
  '--pod-name',
  '--pod-uid',
]);

function withoutDiscovery(args: readonly string[]): string[] {
  return args.filter(
    (arg, index) => !DISCOVERY_FLAGS.has(arg) && !DISCOVERY_FLAGS.has(args[index - 1] ?? ''),
  );
}

interface Place {
  readonly name: string;
  readonly grpc: string;
  readonly metrics: string;
  /** Cluster HOST:PORT -> local HOST:PORT. */
  readonly addresses: ReadonlyMap<string, string>;
}

function processOf(container: V1Container, spec: V1PodSpec | undefined, place: Place): LocalProcess {
  const program = SOURCES[container.command?.[0] ?? ''];
  if (program === undefined)
    throw new Error(`container ${container.name}: no local program for ${container.command?.[0]}`);
  const env = environmentOf(container);
  const own = new Map([
    [`0.0.0.0:${portNamed(container, 'grpc')}`, place.grpc],
    [`0.0.0.0:${portNamed(container, 'metrics')}`, place.metrics],
  ]);
  const mounts = mountsOf(container, spec);
  const rewrite = (token: string): string =>
    own.get(token) ?? place.addresses.get(token) ?? mounted(token, mounts) ?? expand(token, env);
  return {
    name: place.name,
    program,
    // Addresses stand alone, in a list with commas, or behind NAME=.
    args: (container.args ?? []).map((arg) =>
      arg
        .split(/([,=])/)
        .map(rewrite)
        .join(''),
    ),
    env,
    grpc: place.grpc,
    metrics: place.metrics,
  };
}

/** Ranks of one machine share its cores and its memory; each alone would take them all. */
function shareMachine(args: readonly string[], ranks: number, cores: number): string[] {
  const shared = [...args];
  if (!shared.includes('--threads')) shared.push('--threads', String(Math.max(1, Math.floor(cores / ranks))));
  if (shared.includes('--kv-cache-bytes')) return shared;
  const at = shared.indexOf('--kv-cache-fraction');
  const fraction = at < 0 ? KV_CACHE_FRACTION : Number(shared[at + 1]);
  if (at >= 0) shared.splice(at, 2);
  return [...shared, '--kv-cache-fraction', String(fraction / ranks)];
}

function rankContainers(plan: Plan): { pod: V1Pod; container: V1Container }[] {
  return plan.create.flatMap(({ pods }) =>
    pods.flatMap((pod) => containersOf(pod).map((container) => ({ pod, container }))),
  );
}

function containersOf(pod: V1Pod): readonly V1Container[] {
  return pod.spec?.containers ?? [];
}

function clusterAddress(pod: V1Pod, port: number): string {
  return `${pod.spec?.hostname}.${pod.spec?.subdomain}.${pod.metadata?.namespace}.svc:${port}`;
}

/** The container's port of this name; ranks that share a pod number theirs. */
function portNamed(container: V1Container, name: string): number {
  const port = container.ports?.find((p) => p.name === name || p.name?.startsWith(`${name}-`));
  if (port === undefined) throw new Error(`container ${container.name} has no port ${name}`);
  return port.containerPort;
}

function environmentOf(container: V1Container): Record<string, string> {
  return Object.fromEntries(
    (container.env ?? []).flatMap(({ name, value, valueFrom }) => {
      if (value !== undefined) return [[name, value]];
      return valueFrom?.fieldRef?.fieldPath === 'status.podIP' ? [[name, LOOPBACK]] : [];
    }),
  );
}

/** Mount path -> directory of this machine. */
function mountsOf(container: V1Container, spec: V1PodSpec | undefined): ReadonlyMap<string, string> {
  const mounts = new Map<string, string>();
  for (const { name, mountPath, subPath } of container.volumeMounts ?? []) {
    const volume = spec?.volumes?.find((v) => v.name === name);
    // Scratch folders and shared memory are there anyway.
    if (volume?.emptyDir !== undefined) continue;
    const path = volume?.hostPath?.path;
    if (path === undefined) throw new Error(`volume ${name} is no directory of this machine`);
    mounts.set(mountPath, subPath === undefined ? path : `${path}/${subPath}`);
  }
  return mounts;
}

function mounted(token: string, mounts: ReadonlyMap<string, string>): string | undefined {
  for (const [mountPath, path] of mounts) {
    if (token === mountPath) return path;
    if (token.startsWith(`${mountPath}/`)) return path + token.slice(mountPath.length);
  }
  return undefined;
}

function expand(token: string, env: Readonly<Record<string, string>>): string {
  return token.replaceAll(/\$\(([A-Za-z_][A-Za-z0-9_]*)\)/g, (whole, name: string) => env[name] ?? whole);
}
