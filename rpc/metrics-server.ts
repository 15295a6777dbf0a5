import type { Registry } from 'prom-client';
import { answerProbe, serveHttp, type HttpServer } from './http-server.ts';

export interface MetricsServerOptions {
  readonly listen: string;
  readonly registry: Registry;
  /** Answer of /healthz: undefined = healthy (200), otherwise why not (503). */
  readonly unhealthy: () => string | undefined;
  /** Answer of /readyz, which is not served without it: undefined = ready (200), otherwise why not (503). */
  readonly unready?: () => string | undefined;
}

/** Serves /metrics (Prometheus text), /healthz and perhaps /readyz over HTTP; throws PortInUse or BindError. */
export function serveMetrics(options: MetricsServerOptions): Promise<HttpServer> {
  return serveHttp(options.listen, (request, response) => {
    const path = (request.url ?? '/').split('?')[0];
    const asked = path === '/healthz' ? options.unhealthy : path === '/readyz' ? options.unready : undefined;
    if (path === '/metrics') {
      options.registry.metrics().then(
        (body) => response.writeHead(200, { 'content-type': options.registry.contentType }).end(body),
        (err: unknown) => response.writeHead(500).end(`metrics failed: ${String(err)}\n`),
      );
    } else if (asked !== undefined) {
      answerProbe(response, asked());
    } else {
      const readyz = options.unready === undefined ? '' : ' and /readyz';
      response.writeHead(404).end(`not found: /metrics and /healthz${readyz} are served here\n`);
    }
  });
}
