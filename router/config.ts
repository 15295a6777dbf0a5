// The router's flags.

import { parseArgs } from 'node:util';
import { parseAddress } from '../rpc/address.ts';
import { LOG_FORMATS, LOG_LEVELS, type LogFormat, type LogLevel } from '../rpc/log.ts';
import { MAX_REPLICAS } from './replica-set.ts';

export interface RouterConfig {
  readonly listen: string;
  /** Undefined = off. */
  readonly metricsListen: string | undefined;
  readonly replicas: readonly { readonly name: string; readonly address: string }[];
  /** Replicas are the pods of a deployment instead of `replicas`. */
  readonly discovery: Discovery | undefined;
  /** Undefined = what the replicas say. */
  readonly servedName: string | undefined;
  readonly queueMaxRequests: number;
  readonly queueMaxBytes: number;
  readonly queueMaxWaitMs: number;
  readonly maxMessageBytes: number;
  /** Undefined = what the replicas allow. */
  readonly maxImages: number | undefined;
  readonly drainTimeoutMs: number;
  readonly logLevel: LogLevel;
  readonly logFormat: LogFormat;
}

/** Where a router finds its replicas on a cluster, and where it says how they are. */
export interface Discovery {
  readonly namespace: string;
  /** Value of the label internvl.dev/deployment. */
  readonly deploymentLabel: string;
  readonly reportConfigMap: string;
  readonly podName: string;
  readonly podUid: string;
}

/** Flags that cannot be used; the message names the flag. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';
  readonly code = 'invalid_flags';
}

const DISCOVERY_FLAGS = [
  'namespace',
  'deployment-label',
  'report-config-map',
  'pod-name',
  'pod-uid',
] as const;

export const USAGE = `usage: router/main.ts --listen HOST:PORT --replica NAME=HOST:PORT [--replica ...]
       router/main.ts --listen HOST:PORT --namespace NAMESPACE --deployment-label VALUE
                      --report-config-map NAME --pod-name NAME --pod-uid UID
  The first form has fixed replicas; the second watches a deployment's pods through the API server and reports on them.
  --metrics-listen HOST:PORT   /metrics, /healthz and /readyz over HTTP (off when absent)
  --served-name NAME           model name that clients use (what the replicas say)
  --queue-max-requests N       requests that may wait (1000)
  --queue-max-bytes N          bytes that waiting requests may hold (268435456)
  --queue-max-wait-ms N        longest wait for a replica (60000)
  --max-message-bytes N        largest message (33554432)
  --max-images N               pictures a request may have (what the replicas allow)
  --drain-timeout-ms N         time for requests under way after SIGTERM (30000)
  --log-level error|warn|info|debug   --log-format json|text
`;

/** Reads the command line; throws ConfigError. */
export function parseConfig(args: readonly string[]): RouterConfig {
  const flags = readFlags(args);
  const listen = address('--listen', flags.listen ?? fail('--listen HOST:PORT is missing'));
  const discovery = parseDiscovery(flags);
  return {
    listen,
    metricsListen:
      flags['metrics-listen'] === undefined
        ? undefined
        : address('--metrics-listen', flags['metrics-listen']),
    replicas: discovery === undefined ? parseReplicas(flags.replica ?? []) : [],
    discovery,
    servedName: flags['served-name'],
    queueMaxRequests: count('--queue-max-requests', flags['queue-max-requests'], 1000, 1),
    queueMaxBytes: count('--queue-max-bytes', flags['queue-max-bytes'], 268_435_456, 1),
    queueMaxWaitMs: count('--queue-max-wait-ms', flags['queue-max-wait-ms'], 60_000, 1),
    maxMessageBytes: count('--max-message-bytes', flags['max-message-bytes'], 33_554_432, 1024),
    maxImages:
      flags['max-images'] === undefined ? undefined : count('--max-images', flags['max-images'], 0, 0),
    drainTimeoutMs: count('--drain-timeout-ms', flags['drain-timeout-ms'], 30_000, 0),
    logLevel: oneOf('--log-level', flags['log-level'] ?? 'info', LOG_LEVELS),
    logFormat: oneOf('--log-format', flags['log-format'] ?? 'json', LOG_FORMATS),
  };
}

function readFlags(args: readonly string[]) {
  const string = { type: 'string' } as const;
  try {
    return parseArgs({
      args: [...args],
      options: {
        listen: string,
        'metrics-listen': string,
        replica: { type: 'string', multiple: true },
        namespace: string,
        'deployment-label': string,
        'report-config-map': string,
        'pod-name': string,
        'pod-uid': string,
        'served-name': string,
        'queue-max-requests': string,
        'queue-max-bytes': string,
        'queue-max-wait-ms': string,
        'max-message-bytes': string,
        'max-images': string,
        'drain-timeout-ms': string,
        'log-level': string,
        'log-format': string,
      },
    }).values;
  } catch (cause) {
    throw new ConfigError((cause as Error).message, { cause });
  }
}

function parseDiscovery(flags: ReturnType<typeof readFlags>): Discovery | undefined {
  const given = DISCOVERY_FLAGS.filter((flag) => flags[flag] !== undefined);
  if (given.length === 0) return undefined;
  if (flags.replica !== undefined)
    fail(`--replica and --${given[0]} are given: replicas are either listed or found, not both`);
  const value = (flag: (typeof DISCOVERY_FLAGS)[number]): string => {
    const text = flags[flag];
    if (text === undefined) fail(`--${flag} is missing: it is needed with --${given[0]}`);
    if (text === '') fail(`--${flag} is empty`);
    return text;
  };
  return {
    namespace: value('namespace'),
    deploymentLabel: value('deployment-label'),
    reportConfigMap: value('report-config-map'),
    podName: value('pod-name'),
    podUid: value('pod-uid'),
  };
}

function parseReplicas(flags: readonly string[]): RouterConfig['replicas'] {
  if (flags.length === 0)
    fail(
      '--replica NAME=HOST:PORT is missing: at least one is needed, or --namespace and the flags that go with it',
    );
  if (flags.length > MAX_REPLICAS)
    fail(`--replica is given ${flags.length} times, at most ${MAX_REPLICAS} are supported`);
  const names = new Set<string>();
  return flags.map((flag) => {
    const at = flag.indexOf('=');
    if (at <= 0) return fail(`--replica '${flag}' is not NAME=HOST:PORT`);
    const name = flag.slice(0, at);
    if (names.has(name)) fail(`--replica ${name} is given twice`);
    names.add(name);
    return { name, address: address(`--replica ${name}`, flag.slice(at + 1)) };
  });
}

function address(flag: string, text: string): string {
  try {
    parseAddress(text);
    return text;
  } catch (cause) {
    throw new ConfigError(`${flag}: ${(cause as Error).message}`, { cause });
  }
}

function count(flag: string, text: string | undefined, otherwise: number, least: number): number {
  if (text === undefined) return otherwise;
  const value = Number(text);
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(value) || value < least)
    fail(`${flag} is '${text}': it must be a whole number of at least ${least}`);
  return value;
}

function oneOf<T extends string>(flag: string, text: string, values: readonly T[]): T {
  return (
    values.find((value) => value === text) ??
    fail(`${flag} is '${text}': it must be one of ${values.join(', ')}`)
  );
}

function fail(message: string): never {
  throw new ConfigError(message);
}
