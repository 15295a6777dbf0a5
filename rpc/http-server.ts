import { createServer, type RequestListener, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { formatAddress, parseAddress } from './address.ts';
import { bindError } from './bind-error.ts';

/** A small HTTP server for probes and metrics. */
export interface HttpServer {
  /** HOST:PORT with the port that was bound. */
  readonly address: string;
  close(): Promise<void>;
}

/** Listens at HOST:PORT; throws PortInUse or BindError. */
export async function serveHttp(address: string, listener: RequestListener): Promise<HttpServer> {
  const { host, port } = parseAddress(address);
  const server = createServer(listener);
  await new Promise<void>((resolve, reject) => {
    server.once('error', (err) => reject(bindError(address, err)));
    server.listen(port, host, resolve);
  });
  return {
    address: formatAddress({ host, port: (server.address() as AddressInfo).port }),
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

/** Answers a probe: undefined = 200, otherwise why not, with 503. */
export function answerProbe(response: ServerResponse, why: string | undefined): void {
  response.writeHead(why === undefined ? 200 : 503, { 'content-type': 'text/plain' });
  response.end(why === undefined ? 'ok\n' : `${why}\n`);
}
