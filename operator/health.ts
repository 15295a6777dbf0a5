// /healthz: the process should be restarted; /readyz: it knows the world and could act. A standby is ready too: it keeps its caches warm.
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { formatAddress, parseAddress } from '../rpc/address.ts';
import { bindError } from '../rpc/bind-error.ts';

/** A watch without any sign of the API server for this long is dead: an idle one is renewed every 10 minutes at the latest. */
export const WATCH_DEAD_MS = 15 * 60_000;

export interface Watch {
  /** What is watched, for messages. */
  readonly name: string;
  readonly hasSynced: boolean;
  /** Milliseconds since the last sign of the API server; undefined before the first. */
  readonly silentMs: number | undefined;
}

/** Why the process, up for `upMs`, should be restarted; undefined = healthy. */
export function unhealthy(watches: readonly Watch[], upMs: number): string | undefined {
  const dead = watches.filter(({ silentMs }) => (silentMs ?? upMs) > WATCH_DEAD_MS);
  if (dead.length === 0) return undefined;
  return `no answer from the API server for ${WATCH_DEAD_MS / 60_000} minutes: ${names(dead)}`;
}

/** Why the process cannot act yet; undefined = ready. */
export function notReady(watches: readonly Watch[]): string | undefined {
  const missing = watches.filter(({ hasSynced }) => !hasSynced);
  return missing.length === 0 ? undefined : `not synced yet: ${names(missing)}`;
}

function names(watches: readonly Watch[]): string {
  return watches.map(({ name }) => name).join(', ');
}

export interface HealthServer {
  /** HOST:PORT with the port that was bound. */
  readonly address: string;
  close(): Promise<void>;
}

/** Serves /healthz and /readyz over HTTP; throws PortInUse or BindError. */
export async function serveHealth(options: {
  readonly listen: string;
  readonly unhealthy: () => string | undefined;
  readonly notReady: () => string | undefined;
}): Promise<HealthServer> {
  const checks: Readonly<Record<string, () => string | undefined>> = {
    '/healthz': options.unhealthy,
    '/readyz': options.notReady,
  };
  const server = createServer((request, response) => {
    const check = checks[(request.url ?? '/').split('?')[0] ?? '/'];
    if (check === undefined) {
      response.writeHead(404).end('not found: /healthz and /readyz are served here\n');
      return;
    }
    const why = check();
    response.writeHead(why === undefined ? 200 : 503, { 'content-type': 'text/plain' });
    response.end(why === undefined ? 'ok\n' : `${why}\n`);
  });
  const { host, port } = parseAddress(options.listen);
  await listen(server, host, port, options.listen);
  return {
    address: formatAddress({ host, port: (server.address() as AddressInfo).port }),
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
