// The control plane and the fake nodes that the bench runs against, and what its audit log says of who asked for what.

import { createReadStream } from 'node:fs';
import { mkdtemp, readdir, readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import {
  command,
  CONTROL_PLANE_SCRIPT,
  controlPlaneAt,
  programsDirectory,
  type ControlPlane,
} from '../../test/support/control-plane.ts';
import { cpuSecondsOf } from './operator-process.ts';

const CRDS = fileURLToPath(new URL('../../crds/', import.meta.url));
const NODES = 10;

export interface BenchControlPlane extends ControlPlane {
  readonly directory: string;
  /** Processor time so far, by program. */
  cpuSeconds(): Promise<Map<string, number>>;
  /** Of the API server. */
  version(): Promise<string>;
  stop(): Promise<void>;
}

/** Starts it with this clone's CRDs; nothing in it may hold the operator up: clients are not throttled, nodes are never declared lost. */
export async function startControlPlane(): Promise<BenchControlPlane> {
  const directory = await mkdtemp(join(tmpdir(), 'internvl-bench-'));
  const env = {
    STATE_DIR: directory,
    OWNER_PID: String(process.pid),
    // Under this load the fake nodes' heartbeats come late.
    NODE_GRACE_SECONDS: '86400',
    SCHEDULER_ARGS: '--kube-api-qps=1000 --kube-api-burst=2000',
    CONTROLLER_MANAGER_ARGS: '--concurrent-deployment-syncs=10 --concurrent-replicaset-syncs=10',
    APISERVER_ARGS: '--max-requests-inflight=2000 --max-mutating-requests-inflight=1000',
  };
  const script = (...args: readonly string[]) => command('bash', [CONTROL_PLANE_SCRIPT, ...args], { env });
  const stop = async () => {
    await script('down');
  };
  try {
    await script('up');
    await script('kwok', String(NODES));
    const plane = controlPlaneAt(directory, await programsDirectory());
    for (const args of [
      ['apply', '--server-side', '-f', CRDS],
      ['wait', '--for=condition=Established', '-f', CRDS],
    ]) {
      const { code, stderr } = await plane.kubectl(args);
      if (code !== 0) throw new Error(`kubectl ${args.join(' ')}: ${stderr}`);
    }
    const version = async () => {
      const { stdout } = await plane.kubectl(['get', '--raw', '/version']);
      return (JSON.parse(stdout) as { gitVersion: string }).gitVersion;
    };
    return {
      ...plane,
      directory,
      version,
      stop,
      cpuSeconds: () => programsCpuSeconds(join(directory, 'pids')),
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

async function programsCpuSeconds(pids: string): Promise<Map<string, number>> {
  const seconds = new Map<string, number>();
  for (const name of await readdir(pids))
    seconds.set(name, await cpuSecondsOf(Number(await readFile(join(pids, name), 'utf8'))));
  return seconds;
}

/** One request of the audit log. */
export interface AuditedCall {
  readonly verb: string;
  readonly resource: string;
  readonly at: number;
}

interface AuditLine {
  readonly verb: string;
  readonly stage: string;
  readonly userAgent?: string;
  readonly requestReceivedTimestamp: string;
  readonly objectRef?: { readonly resource?: string; readonly subresource?: string };
}

/** What the client with this user agent asked for; a request that is still open (a watch) is counted when it began. */
export async function auditedCalls(file: string, userAgent: string): Promise<AuditedCall[]> {
  const calls: AuditedCall[] = [];
  const seen = new Set<string>();
  for await (const line of createInterface({ input: createReadStream(file) })) {
    if (!line.includes(userAgent)) continue;
    const entry = JSON.parse(line) as AuditLine & { readonly auditID: string };
    if (entry.userAgent?.startsWith(userAgent) !== true || seen.has(entry.auditID)) continue;
    seen.add(entry.auditID);
    const { resource = '', subresource } = entry.objectRef ?? {};
    calls.push({
      verb: entry.verb,
      resource: subresource === undefined ? resource : `${resource}/${subresource}`,
      at: Date.parse(entry.requestReceivedTimestamp),
    });
  }
  return calls;
}

export const WRITES: ReadonlySet<string> = new Set([
  'create',
  'update',
  'patch',
  'delete',
  'deletecollection',
]);
