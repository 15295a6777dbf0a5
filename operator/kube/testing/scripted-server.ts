// An HTTP server that answers as a test tells it to, so that it can misbehave in ways a real API server rarely does.
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { KubeConfig } from '@kubernetes/client-node';

export interface SeenRequest {
  readonly method: string;
  readonly path: string;
  readonly query: URLSearchParams;
  readonly headers: IncomingMessage['headers'];
  readonly body: string;
  readonly response: ServerResponse;
  /** Answers with JSON. */
  reply(status: number, body: unknown, headers?: Readonly<Record<string, string>>): void;
  /** Sends lines of a watch and leaves it open. */
  stream(...events: readonly unknown[]): void;
}

export type Handler = (request: SeenRequest) => void;

export class ScriptedServer implements AsyncDisposable {
  readonly #server = createServer((message, response) => void this.#serve(message, response));
  readonly #sockets = new Set<Socket>();
  readonly requests: SeenRequest[] = [];
  connections = 0;
  handler: Handler;

  constructor(handler: Handler) {
    this.handler = handler;
    this.#server.on('connection', (socket) => {
      this.connections += 1;
      this.#sockets.add(socket);
      socket.on('close', () => this.#sockets.delete(socket));
    });
  }

  static async start(handler: Handler): Promise<ScriptedServer> {
    const server = new ScriptedServer(handler);
    await new Promise<void>((resolve) => server.#server.listen(0, '127.0.0.1', resolve));
    return server;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  get openSockets(): number {
    return this.#sockets.size;
  }

  kubeConfig(user: object = { name: 'u' }, path = ''): KubeConfig {
    const config = new KubeConfig();
    config.loadFromOptions({
      // client-node speaks plain HTTP only where TLS is not to be verified.
      clusters: [{ name: 'c', server: `${this.url}${path}`, skipTLSVerify: true }],
      users: [user],
      contexts: [{ name: 'x', cluster: 'c', user: 'u' }],
      currentContext: 'x',
    });
    return config;
  }

  of(kind: 'list' | 'watch'): SeenRequest[] {
    return this.requests.filter(
      ({ method, query }) => method === 'GET' && (query.get('watch') === 'true') === (kind === 'watch'),
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  async #serve(message: IncomingMessage, response: ServerResponse): Promise<void> {
    const parts: Buffer[] = [];
    try {
      for await (const part of message as AsyncIterable<Buffer>) parts.push(part);
    } catch {
      return; // the client went away
    }
    const url = new URL(message.url ?? '/', 'http://server');
    const request: SeenRequest = {
      method: message.method ?? '',
      path: url.pathname,
      query: url.searchParams,
      headers: message.headers,
      body: Buffer.concat(parts).toString(),
      response,
      reply: (status, body, headers = {}) => {
        response.writeHead(status, { 'Content-Type': 'application/json', ...headers });
        response.end(typeof body === 'string' ? body : JSON.stringify(body));
      },
      stream: (...events) => {
        if (!response.headersSent) response.writeHead(200, { 'Content-Type': 'application/json' });
        response.flushHeaders();
        for (const event of events) response.write(`${JSON.stringify(event)}\n`);
      },
    };
    this.requests.push(request);
    this.handler(request);
  }
}
