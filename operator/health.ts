// /healthz: the process should be restarted; /readyz: it knows the world and could act. A standby is ready too: it keeps its caches warm.
import { answerProbe, serveHttp, type HttpServer } from '../rpc/http-server.ts';

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

/** Serves /healthz and /readyz over HTTP; throws PortInUse or BindError. */
export function serveHealth(options: {
  readonly listen: string;
  readonly unhealthy: () => string | undefined;
  readonly notReady: () => string | undefined;
}): Promise<HttpServer> {
  const checks: Readonly<Record<string, () => string | undefined>> = {
    '/healthz': options.unhealthy,
    '/readyz': options.notReady,
  };
  return serveHttp(options.listen, (request, response) => {
    const check = checks[(request.url ?? '/').split('?')[0] ?? '/'];
    if (check === undefined) {
      response.writeHead(404).end('not found: /healthz and /readyz are served here\n');
      return;
    }
    answerProbe(response, check());
  });
}
