// An API server's pods and one ConfigMap over plain HTTP: list, watch and apply, no more. Real ones are tested against elsewhere.

import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { KubeConfig } from '@kubernetes/client-node';
import type { ReplicaReport } from '../../operator/observed.ts';
import { ANNOTATIONS, LABELS } from '../../operator/api.ts';

export interface FakePod {
  readonly group: string;
  readonly uid: string;
  /** Undefined = not assigned yet. */
  readonly ip?: string | undefined;
  readonly drain?: boolean;
  readonly deleting?: boolean;
  readonly phase?: string;
}

type PodObject = ReturnType<typeof podObject>;

export function podObject({ group, uid, ip, drain, deleting, phase }: FakePod, resourceVersion = '1') {
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      name: `${group}-0`,
      namespace: 'models',
      uid,
      resourceVersion,
      labels: { [LABELS.group]: group, [LABELS.rank]: '0' },
      annotations: drain === true ? { [ANNOTATIONS.drain]: '2026-01-01T00:00:00Z' } : {},
      ...(deleting === true && { deletionTimestamp: '2026-01-01T00:00:00Z' }),
    },
    status: { phase: phase ?? 'Running', ...(ip !== undefined && { podIP: ip }) },
  };
}

export class PodApi {
  /** While true every call is cut, as by a server that is away. */
  #away = false;
  /** Reports that were applied, newest last. */
  readonly reports: Record<string, ReplicaReport>[] = [];
  /** What was asked for, as METHOD path?query. */
  readonly requests: string[] = [];
  readonly #server: Server;
  readonly #pods = new Map<string, PodObject>();
  readonly #watches = new Set<ServerResponse>();
  readonly #events: { version: number; line: string }[] = [];
  #version = 1;

  static async start(): Promise<PodApi> {
    const api = new PodApi();
    await new Promise<void>((resolve) => api.#server.listen(0, '127.0.0.1', resolve));
    return api;
  }

  private constructor() {
    this.#server = createServer((request, response) => this.#answer(request, response));
  }

  kubeConfig(): KubeConfig {
    const config = new KubeConfig();
    const { port } = this.#server.address() as AddressInfo;
    config.loadFromClusterAndUser(
      { name: 'fake', server: `http://127.0.0.1:${port}`, skipTLSVerify: true },
      { name: 'router' },
    );
    return config;
  }

  put(pod: FakePod): void {
    const object = podObject(pod, String(++this.#version));
    const type = this.#pods.has(object.metadata.name) ? 'MODIFIED' : 'ADDED';
    this.#pods.set(object.metadata.name, object);
    this.#tell(type, object);
  }

  remove(group: string): void {
    const name = `${group}-0`;
    const object = this.#pods.get(name)!;
    this.#pods.delete(name);
    const last = { ...object, metadata: { ...object.metadata, resourceVersion: String(++this.#version) } };
    this.#tell('DELETED', last);
  }

  /** What the newest report says of a group. */
  reported(group: string): ReplicaReport | undefined {
    return this.reports.at(-1)?.[group];
  }

  goAway(): void {
    this.#away = true;
    this.#server.closeAllConnections();
  }

  comeBack(): void {
    this.#away = false;
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #tell(type: string, object: PodObject): void {
    const line = `${JSON.stringify({ type, object })}\n`;
    this.#events.push({ version: this.#version, line });
    for (const watch of this.#watches) watch.write(line);
  }

  #answer(request: IncomingMessage, response: ServerResponse): void {
    if (this.#away) {
      request.socket.destroy();
      return;
    }
    const url = new URL(request.url!, 'http://api');
    this.requests.push(`${request.method} ${decodeURIComponent(request.url!)}`);
    if (url.pathname === '/api/v1/namespaces/models/pods' && url.searchParams.has('watch')) {
      response.writeHead(200, { 'content-type': 'application/json' });
      response.flushHeaders();
      const from = Number(url.searchParams.get('resourceVersion'));
      for (const { version, line } of this.#events) if (version > from) response.write(line);
      this.#watches.add(response);
      response.on('close', () => this.#watches.delete(response));
    } else if (url.pathname === '/api/v1/namespaces/models/pods') {
      this.#json(response, {
        apiVersion: 'v1',
        kind: 'PodList',
        metadata: { resourceVersion: String(this.#version) },
        items: [...this.#pods.values()],
      });
    } else if (
      request.method === 'PATCH' &&
      url.pathname === '/api/v1/namespaces/models/configmaps/demo-routers'
    ) {
      let body = '';
      request.on('data', (chunk: Buffer) => (body += chunk.toString()));
      request.on('end', () => {
        const applied = JSON.parse(body) as { data: Record<string, string> };
        const report = JSON.parse(applied.data['demo-router-1']!) as {
          replicas: Record<string, ReplicaReport>;
        };
        this.reports.push(report.replicas);
        this.#json(response, { ...applied, metadata: { name: 'demo-routers', namespace: 'models' } });
      });
    } else {
      response.writeHead(404).end('{}');
    }
  }

  #json(response: ServerResponse, value: unknown): void {
    response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(value));
  }
}
