// The real operator process against the control plane of the run, one namespace wide, and what kubectl says of its work.
import { spawn, type ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { LABELS } from '../../operator/api.ts';
import { routersConfigMapName } from '../../operator/names.ts';
import type { ReplicaReport } from '../../operator/observed.ts';
import type { ControlPlane } from './control-plane.ts';

const MAIN = fileURLToPath(new URL('../../operator/main.ts', import.meta.url));

export interface LogLine {
  readonly message: string;
  readonly level: string;
  readonly [field: string]: unknown;
}

export interface OperatorProcess {
  readonly identity: string;
  readonly logs: readonly LogLine[];
  /** Waits for a line with this message that was or will be written. */
  said(message: string | RegExp): Promise<LogLine>;
  kill(signal: NodeJS.Signals): void;
  /** Exit code, or the signal that ended it. */
  readonly ended: Promise<number | string>;
  /** Prometheus text. */
  metrics(): Promise<string>;
  /** SIGTERM, and SIGKILL when that does not help. */
  stop(): Promise<void>;
}

/** `namespace` is what it watches; undefined = all, and its Lease is then where `flags` say. */
export async function startOperator(
  { kubeconfig }: Pick<ControlPlane, 'kubeconfig'>,
  namespace: string | undefined,
  identity: string,
  flags: readonly string[] = [],
): Promise<OperatorProcess> {
  const args = [
    '--disable-warning=ExperimentalWarning',
    MAIN,
    '--kubeconfig',
    kubeconfig,
    ...(namespace === undefined ? [] : ['--namespace', namespace, '--lease-namespace', namespace]),
    '--runtime-image',
    'localhost/runtime:1',
    '--router-image',
    'localhost/router:1',
    '--identity',
    identity,
    '--metrics-listen',
    '127.0.0.1:0',
    '--health-listen',
    '127.0.0.1:0',
    ...flags,
  ];
  const child: ChildProcess = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  const logs: LogLine[] = [];
  const waiting = new Set<() => void>();
  createInterface({ input: child.stdout! }).on('line', (text) => {
    logs.push(JSON.parse(text) as LogLine);
    for (const look of waiting) look();
  });
  const ended = new Promise<number | string>((resolve) =>
    child.on('exit', (code, signal) => resolve(code ?? signal ?? 'gone')),
  );
  const said = (message: string | RegExp): Promise<LogLine> =>
    new Promise((resolve, reject) => {
      const look = (): void => {
        const line = logs.find((line) =>
          typeof message === 'string' ? line.message === message : message.test(line.message),
        );
        if (line === undefined) return;
        waiting.delete(look);
        resolve(line);
      };
      waiting.add(look);
      look();
      void ended.then((how) =>
        reject(new Error(`${identity} ended (${how}) and never said ${String(message)}`)),
      );
    });
  const listening = await said('listening');
  return {
    identity,
    logs,
    said,
    ended,
    kill: (signal) => child.kill(signal),
    metrics: async () => (await fetch(`http://${String(listening['metrics'])}/metrics`)).text(),
    async stop() {
      child.kill('SIGTERM');
      const timer = setTimeout(() => child.kill('SIGKILL'), 15_000);
      await ended;
      clearTimeout(timer);
    },
  };
}

/** Tries until `probe` no longer throws; the last error is thrown when it takes too long. */
export async function eventually<T>(probe: () => Promise<T>, timeoutMs = 30_000): Promise<T> {
  const end = performance.now() + timeoutMs;
  for (;;) {
    try {
      return await probe();
    } catch (error) {
      if (performance.now() > end) throw error;
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  }
}

export interface ListedObject {
  readonly kind: string;
  readonly metadata: {
    readonly name: string;
    readonly uid: string;
    readonly resourceVersion: string;
    readonly labels?: Readonly<Record<string, string>>;
    readonly deletionTimestamp?: string;
  };
  readonly status?: {
    readonly phase?: string;
    readonly conditions?: readonly { type: string; status: string; reason?: string; message?: string }[];
  };
  readonly data?: Readonly<Record<string, string>>;
}

const CHILD_KINDS =
  'pods,configmaps,services,serviceaccounts,deployments,roles,rolebindings,poddisruptionbudgets,networkpolicies';

/** Everything in the namespace that carries the operator's label. */
export async function managed({ kubectl }: ControlPlane, namespace: string): Promise<ListedObject[]> {
  const args = [
    '-n',
    namespace,
    'get',
    CHILD_KINDS,
    '-l',
    `${LABELS.managedBy}=internvl-operator`,
    '-o',
    'json',
  ];
  const { stdout, stderr, code } = await kubectl(args);
  if (code !== 0) throw new Error(stderr);
  return (JSON.parse(stdout) as { items: ListedObject[] }).items;
}

export async function read(
  { kubectl }: ControlPlane,
  namespace: string,
  what: string,
): Promise<ListedObject> {
  const { stdout, stderr, code } = await kubectl(['-n', namespace, 'get', what, '-o', 'json']);
  if (code !== 0) throw new Error(stderr);
  return JSON.parse(stdout) as ListedObject;
}

/** Writes what a router would: that every group which has a rank 0 answers. There is no router on fake nodes. */
export async function reportReady(
  plane: ControlPlane,
  namespace: string,
  name: string,
  more: Partial<ReplicaReport> = {},
): Promise<void> {
  const objects = await managed(plane, namespace);
  const pods = objects.filter(({ kind }) => kind === 'Pod');
  const router = pods.find(({ metadata }) => metadata.labels?.[LABELS.component] === 'router');
  if (router === undefined) throw new Error('there is no router pod yet');
  const replicas = Object.fromEntries(
    pods
      .filter(({ metadata }) => metadata.labels?.[LABELS.rank] === '0')
      .map(({ metadata }) => [
        metadata.labels?.[LABELS.group] ?? '',
        { podUid: metadata.uid, state: 'ready', message: '', ...more },
      ]),
  );
  const report = JSON.stringify({ routerUid: router.metadata.uid, replicas });
  const patch = JSON.stringify({ data: { [router.metadata.name]: report } });
  const args = [
    '-n',
    namespace,
    'patch',
    'configmap',
    routersConfigMapName(name),
    '--type',
    'merge',
    '-p',
    patch,
  ];
  const { code, stderr } = await plane.kubectl(args);
  if (code !== 0) throw new Error(stderr);
}
