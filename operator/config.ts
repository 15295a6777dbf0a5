// The operator's flags and environment. Nothing else of the operator reads either.
import { parseArgs } from 'node:util';
import { parseAddress } from '../rpc/address.ts';
import { LOG_FORMATS, LOG_LEVELS, type LogFormat, type LogLevel } from '../rpc/log.ts';
import type { PlanConfig } from './plan.ts';

export interface LeaderElectionConfig {
  readonly enabled: boolean;
  readonly namespace: string;
  readonly name: string;
  readonly leaseDurationMs: number;
  readonly renewDeadlineMs: number;
  readonly retryPeriodMs: number;
}

export interface OperatorConfig {
  /** Undefined = in the cluster, or the default kubeconfig. */
  readonly kubeconfig: string | undefined;
  /** Namespaces that are watched; empty = all. */
  readonly namespaces: readonly string[];
  /** Name of this process: who holds the Lease, and where events come from. */
  readonly identity: string;
  readonly leaderElection: LeaderElectionConfig;
  readonly plan: PlanConfig;
  /** Deployments that are reconciled at once. */
  readonly concurrency: number;
  /** Every deployment is looked at again this often, from the caches alone. */
  readonly resyncMs: number;
  /** Longest reconcile; what it has not written by then is written by the next. */
  readonly reconcileTimeoutMs: number;
  /** HOST:PORT of /metrics; undefined = off. */
  readonly metricsListen: string | undefined;
  /** HOST:PORT of /healthz and /readyz; undefined = off. */
  readonly healthListen: string | undefined;
  readonly logLevel: LogLevel;
  readonly logFormat: LogFormat;
}

/** Flags that cannot be used; `problems` names every one of them. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';
  readonly code = 'invalid_flags';
  readonly problems: readonly string[];

  constructor(problems: readonly string[], options?: ErrorOptions) {
    super(problems.join('\n'), options);
    this.problems = problems;
  }
}

export const USAGE = `usage: operator/main.ts --runtime-image IMAGE --router-image IMAGE [flags]
  --runtime-image IMAGE        image of rank pods whose deployment names none
  --router-image IMAGE         image of router pods whose deployment names none
  --namespace NS               watch this namespace; may be given several times (all)
  --kubeconfig FILE            how to reach the API server (in-cluster, $KUBECONFIG or ~/.kube/config)
  --concurrency N              deployments reconciled at once (16)
  --placement-timeout-ms N     time for a group to find a place before what is placed of it is released (30000)
  --node-lost-timeout-ms N     time a node may be not ready before its groups are replaced (10000)
  --network-policy true|false  make NetworkPolicies for ranks and routers (true)
  --leader-elect true|false    act only while holding the Lease (true)
  --lease-namespace NS         namespace of the Lease ($POD_NAMESPACE, or default)
  --lease-name NAME            name of the Lease (internvl-operator)
  --lease-duration-ms N        time after which others may take a Lease that is not renewed (15000)
  --renew-deadline-ms N        time after which a leader that cannot renew stops (10000)
  --retry-period-ms N          time between attempts to take or renew (2000)
  --identity NAME              who holds the Lease ($POD_NAME, or the host name)
  --resync-ms N                every deployment is looked at this often (600000)
  --reconcile-timeout-ms N     longest reconcile (120000)
  --metrics-listen HOST:PORT   /metrics (0.0.0.0:8080; empty = off)
  --health-listen HOST:PORT    /healthz and /readyz (0.0.0.0:8081; empty = off)
  --log-level error|warn|info|debug   --log-format json|text
`;

const MAX_NAMESPACES = 64;
const DNS_LABEL = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/;
const FLAGS = [
  'runtime-image',
  'router-image',
  'kubeconfig',
  'concurrency',
  'placement-timeout-ms',
  'node-lost-timeout-ms',
  'network-policy',
  'leader-elect',
  'lease-namespace',
  'lease-name',
  'lease-duration-ms',
  'renew-deadline-ms',
  'retry-period-ms',
  'identity',
  'resync-ms',
  'reconcile-timeout-ms',
  'metrics-listen',
  'health-listen',
  'log-level',
  'log-format',
] as const;
type Flag = (typeof FLAGS)[number];

/** Reads the command line and the environment; throws ConfigError with every problem at once. */
export function parseConfig(
  args: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
): OperatorConfig {
  const { values, namespaces } = readFlags(args);
  const problems: string[] = [];
  const read = new FlagReader(values, problems);

  const leaderElection: LeaderElectionConfig = {
    enabled: read.flag('leader-elect', true),
    namespace: read.dnsLabel('lease-namespace', env['POD_NAMESPACE'] ?? 'default'),
    name: read.dnsLabel('lease-name', 'internvl-operator'),
    leaseDurationMs: read.count('lease-duration-ms', 15_000, 1000),
    renewDeadlineMs: read.count('renew-deadline-ms', 10_000, 100),
    retryPeriodMs: read.count('retry-period-ms', 2000, 50),
  };
  const { leaseDurationMs, renewDeadlineMs, retryPeriodMs } = leaderElection;
  if (leaseDurationMs % 1000 !== 0)
    problems.push(`--lease-duration-ms is ${leaseDurationMs}: a Lease counts whole seconds`);
  // Otherwise two processes could act at once, or a leader could give up before it has tried again.
  if (renewDeadlineMs >= leaseDurationMs)
    problems.push(
      `--renew-deadline-ms (${renewDeadlineMs}) must be shorter than --lease-duration-ms (${leaseDurationMs})`,
    );
  if (retryPeriodMs >= renewDeadlineMs)
    problems.push(
      `--retry-period-ms (${retryPeriodMs}) must be shorter than --renew-deadline-ms (${renewDeadlineMs})`,
    );
  for (const namespace of namespaces)
    if (!DNS_LABEL.test(namespace))
      problems.push(`--namespace is '${namespace}': it must be the name of a namespace`);
  if (namespaces.length > MAX_NAMESPACES)
    problems.push(
      `--namespace is given ${namespaces.length} times, at most ${MAX_NAMESPACES} are supported: leave it out to watch all`,
    );

  const config: OperatorConfig = {
    kubeconfig: values.kubeconfig,
    namespaces: Object.freeze([...new Set(namespaces)]),
    identity: values.identity ?? env['POD_NAME'] ?? env['HOSTNAME'] ?? 'internvl-operator',
    leaderElection: Object.freeze(leaderElection),
    plan: Object.freeze({
      runtimeImage: read.required('runtime-image', 'IMAGE'),
      routerImage: read.required('router-image', 'IMAGE'),
      placementTimeoutMs: read.count('placement-timeout-ms', 30_000, 1000),
      nodeLostTimeoutMs: read.count('node-lost-timeout-ms', 10_000, 0),
      networkPolicy: read.flag('network-policy', true),
    }),
    concurrency: read.count('concurrency', 16, 1),
    resyncMs: read.count('resync-ms', 600_000, 1000),
    reconcileTimeoutMs: read.count('reconcile-timeout-ms', 120_000, 1000),
    metricsListen: read.address('metrics-listen', '0.0.0.0:8080'),
    healthListen: read.address('health-listen', '0.0.0.0:8081'),
    logLevel: read.oneOf('log-level', 'info', LOG_LEVELS),
    logFormat: read.oneOf('log-format', 'json', LOG_FORMATS),
  };
  if (problems.length > 0) throw new ConfigError(problems);
  return Object.freeze(config);
}

function readFlags(args: readonly string[]): {
  values: Partial<Record<Flag, string>>;
  namespaces: readonly string[];
} {
  const options = Object.fromEntries(FLAGS.map((flag) => [flag, { type: 'string' } as const]));
  try {
    const { values } = parseArgs({
      args: [...args],
      options: { ...options, namespace: { type: 'string', multiple: true } },
    });
    const { namespace, ...rest } = values;
    return { values: rest, namespaces: namespace ?? [] };
  } catch (cause) {
    throw new ConfigError([(cause as Error).message], { cause });
  }
}

/** Reads flags one by one and notes what is wrong, so that all of it is told at once. */
class FlagReader {
  readonly #values: Partial<Record<Flag, string>>;
  readonly #problems: string[];

  constructor(values: Partial<Record<Flag, string>>, problems: string[]) {
    this.#values = values;
    this.#problems = problems;
  }

  required(flag: Flag, what: string): string {
    const text = this.#values[flag] ?? '';
    if (text === '') this.#problems.push(`--${flag} ${what} is missing`);
    return text;
  }

  count(flag: Flag, otherwise: number, least: number): number {
    const text = this.#values[flag];
    if (text === undefined) return otherwise;
    const value = Number(text);
    if (/^\d+$/.test(text) && Number.isSafeInteger(value) && value >= least) return value;
    this.#problems.push(`--${flag} is '${text}': it must be a whole number of at least ${least}`);
    return otherwise;
  }

  flag(flag: Flag, otherwise: boolean): boolean {
    return this.oneOf(flag, otherwise ? 'true' : 'false', ['true', 'false']) === 'true';
  }

  dnsLabel(flag: Flag, otherwise: string): string {
    const text = this.#values[flag] ?? otherwise;
    if (!DNS_LABEL.test(text))
      this.#problems.push(`--${flag} is '${text}': it must be a DNS label of at most 63 characters`);
    return text;
  }

  address(flag: Flag, otherwise: string): string | undefined {
    const text = this.#values[flag] ?? otherwise;
    if (text === '') return undefined;
    try {
      parseAddress(text);
    } catch (error) {
      this.#problems.push(`--${flag}: ${(error as Error).message}`);
    }
    return text;
  }

  oneOf<T extends string>(flag: Flag, otherwise: T, allowed: readonly T[]): T {
    const text = this.#values[flag] ?? otherwise;
    const value = allowed.find((candidate) => candidate === text);
    if (value !== undefined) return value;
    this.#problems.push(`--${flag} is '${text}': it must be one of ${allowed.join(', ')}`);
    return otherwise;
  }
}
