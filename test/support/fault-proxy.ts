// Stands between an operator and the API server, with the administrator's rights, and does to chosen requests what networks and servers do.
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import https from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { KubeConfig } from '@kubernetes/client-node';

export interface ProxiedRequest {
  readonly method: string;
  readonly path: string;
  readonly isWatch: boolean;
  /** Changes something; leases and events are left out, by which operators only speak of themselves. */
  readonly isWrite: boolean;
}

export type Fault =
  | {
      readonly kind: 'answer';
      readonly status: number;
      readonly reason: string;
      readonly retryAfter?: number;
    }
  /** A stream that begins well and then says that its version is too old. */
  | { readonly kind: 'expired' }
  | { readonly kind: 'delay'; readonly ms: number }
  /** The connection ends; `after` = when the API server has carried it out. */
  | { readonly kind: 'cut'; readonly when: 'before' | 'after' };

export class FaultProxy {
  /** Asked for each request; undefined = it passes. */
  fault: (request: ProxiedRequest) => Fault | undefined = () => undefined;
  /** For `--kubeconfig`. */
  readonly kubeconfig: string;
  readonly #directory: string;
  readonly #server: Server;
  readonly #target: URL;
  readonly #tls: https.RequestOptions;
  readonly #watches = new Set<ServerResponse>();

  private constructor(directory: string, server: Server, target: URL, tls: https.RequestOptions) {
    this.#directory = directory;
    this.kubeconfig = join(directory, 'kubeconfig');
    this.#server = server;
    this.#target = target;
    this.#tls = tls;
  }

  static async start(adminKubeconfig: string): Promise<FaultProxy> {
    const config = new KubeConfig();
    config.loadFromFile(adminKubeconfig);
    const tls: https.RequestOptions = {};
    await config.applyToHTTPSOptions(tls);
    const { cert, key, ca } = tls;
    const agent = new https.Agent({
      keepAlive: true,
      ...(cert && { cert }),
      ...(key && { key }),
      ...(ca && { ca }),
    });
    const directory = await mkdtemp(join(tmpdir(), 'internvl-fault-proxy-'));
    const server = createServer();
    const target = new URL(config.getCurrentCluster()?.server ?? '');
    const proxy = new FaultProxy(directory, server, target, { agent });
    server.on('request', (request, response) => void proxy.#handle(request, response));
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    await writeFile(proxy.kubeconfig, kubeconfig(url, { 'insecure-skip-tls-verify': true }, {}));
    return proxy;
  }

  get openWatches(): number {
    return this.#watches.size;
  }

  /** Ends every watch that is open, without a word. */
  cutWatches(): void {
    for (const response of this.#watches) response.destroy();
  }

  async close(): Promise<void> {
    this.#server.close();
    this.#server.closeAllConnections();
    (this.#tls.agent as https.Agent).destroy();
    await rm(this.#directory, { recursive: true });
  }

  async #handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    response.on('error', () => undefined);
    try {
      const parts: Buffer[] = [];
      for await (const part of request) parts.push(part as Buffer);
      const { method = 'GET', url = '/' } = request;
      const isWatch = /[?&]watch=true/.test(url);
      const isWrite = method !== 'GET' && !/\/(leases|events)(\/|\?|$)/.test(url);
      const fault = this.fault({ method, path: url, isWatch, isWrite });
      if (fault?.kind === 'answer') return answer(response, fault);
      if (fault?.kind === 'expired') return expire(response);
      if (fault?.kind === 'cut' && fault.when === 'before') return void response.destroy();
      if (fault?.kind === 'delay') await new Promise((resolve) => setTimeout(resolve, fault.ms));
      await this.#forward(request, Buffer.concat(parts), response, { isWatch, cut: fault?.kind === 'cut' });
    } catch {
      // Either side has gone; to the operator it is a connection that broke.
      response.destroy();
    }
  }

  async #forward(
    request: IncomingMessage,
    body: Buffer,
    response: ServerResponse,
    { isWatch, cut }: { isWatch: boolean; cut: boolean },
  ): Promise<void> {
    const { host: _, connection: __, ...headers } = request.headers;
    const upstream = https.request({
      ...this.#tls,
      host: this.#target.hostname,
      port: this.#target.port,
      method: request.method,
      path: request.url,
      headers,
    });
    response.on('close', () => {
      this.#watches.delete(response);
      // What is cut afterwards must be carried out, even if the one who asked is gone by then.
      if (!cut) upstream.destroy();
    });
    upstream.end(body);
    const [result] = (await once(upstream, 'response')) as [IncomingMessage];
    if (cut) {
      result.resume();
      await once(result, 'end');
      response.destroy();
      return;
    }
    if (isWatch) this.#watches.add(response);
    response.writeHead(result.statusCode ?? 502, result.headers);
    response.flushHeaders();
    result.on('error', () => response.destroy());
    result.pipe(response);
  }
}

function answer(response: ServerResponse, { status, reason, retryAfter }: Fault & { kind: 'answer' }): void {
  const body = {
    kind: 'Status',
    apiVersion: 'v1',
    status: 'Failure',
    code: status,
    reason,
    message: 'made up',
  };
  response.writeHead(status, {
    'content-type': 'application/json',
    ...(retryAfter !== undefined && { 'retry-after': String(retryAfter) }),
  });
  response.end(JSON.stringify(body));
}

function expire(response: ServerResponse): void {
  const object = {
    kind: 'Status',
    apiVersion: 'v1',
    status: 'Failure',
    code: 410,
    reason: 'Expired',
    message: 'too old',
  };
  response.writeHead(200, { 'content-type': 'application/json' });
  response.end(`${JSON.stringify({ type: 'ERROR', object })}\n`);
}

/** A kubeconfig with one cluster and one user. */
export function kubeconfig(server: string, cluster: object, user: object): string {
  return JSON.stringify({
    apiVersion: 'v1',
    kind: 'Config',
    'current-context': 'only',
    clusters: [{ name: 'only', cluster: { server, ...cluster } }],
    users: [{ name: 'only', user }],
    contexts: [{ name: 'only', context: { cluster: 'only', user: 'only' } }],
  });
}
