import { createServer } from 'node:http';
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Registry } from 'prom-client';
import { formatAddress, parseAddress } from './address.ts';
import { bindError } from './bind-error.ts';

export interface MetricsServer {
  /** HOST:PORT with the port that was bound. */
  readonly address: string;
  close(): Promise<void>;
}

export interface MetricsServerOptions {
  readonly listen: string;
  readonly registry: Registry;
  /** Answer of /healthz: undefined = healthy (200), otherwise why not (503). */
  readonly unhealthy: () => string | undefined;
  /** Answer of /readyz, which is not served without it: undefined = ready (200), otherwise why not (503). */
  readonly unready?: () => string | undefined;
}

/** Serves /metrics (Prometheus text), /healthz and perhaps /readyz over HTTP; throws PortInUse or BindError. */
export async function serveMetrics(options: MetricsServerOptions): Promise<MetricsServer> {
  const { host, port } = parseAddress(options.listen);
  const server = createServer((request, response) => {
    const path = (request.url ?? '/').split('?')[0];
    const asked = path === '/healthz' ? options.unhealthy : path === '/readyz' ? options.unready : undefined;
    if (path === '/metrics') {
      options.registry.metrics().then(
        (body) => response.writeHead(200, { 'content-type': options.registry.contentType }).end(body),
        (err: unknown) => response.writeHead(500).end(`metrics failed: ${String(err)}\n`),
      );
    } else if (asked !== undefined) {
      const why = asked();
      response.writeHead(why === undefined ? 200 : 503, { 'content-type': 'text/plain' });
      response.end(why === undefined ? 'ok\n' : `${why}\n`);
    } else {
      const readyz = options.unready === undefined ? '' : ' and /readyz';
      response.writeHead(404).end(`not found: /metrics and /healthz${readyz} are served here\n`);
    }
  });
  await listen(server, host, port, options.listen);
  const bound = server.address() as AddressInfo;
  return {
    address: formatAddress({ host, port: bound.port }),
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

function listen(server: Server, host: string, port: number, address: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (err) => reject(bindError(address, err)));
    server.listen(port, host, resolve);
  });
}
