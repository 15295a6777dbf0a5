import { createServer } from 'node:net';

/** The address is taken; the message names it. */
export class PortInUse extends Error {
  override readonly name = 'PortInUse';
  readonly code = 'port_in_use';
}

// Below the range from which the kernel gives outgoing connections their ports (32768 and up), so that none is lost between choosing and binding.
const FIRST = 20_000;
const LAST = 32_000;

/** `count` different ports of `host` that nothing listens on now; throws when there are none. */
export async function freePorts(count: number, host = '127.0.0.1', random = Math.random): Promise<number[]> {
  const found: number[] = [];
  // A random start keeps two deployments that begin together apart.
  let candidate = FIRST + Math.floor(random() * (LAST - FIRST));
  for (let tried = 0; found.length < count; tried++) {
    if (tried > LAST - FIRST) throw new PortInUse(`no ${count} free ports in ${FIRST}..${LAST} of ${host}`);
    candidate = candidate >= LAST ? FIRST : candidate + 1;
    if (await isFree(host, candidate)) found.push(candidate);
  }
  return found;
}

/** Throws PortInUse unless `port` of `host` can be bound now. */
export async function assertFree(host: string, port: number): Promise<void> {
  if (await isFree(host, port)) return;
  throw new PortInUse(`${host}:${port} is in use by another process; stop it or choose another --grpc-port`);
}

function isFree(host: string, port: number): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'EADDRINUSE') resolve(false);
      else reject(new Error(`cannot listen on ${host}:${port}: ${error.message}`, { cause: error }));
    });
    server.listen({ host, port, exclusive: true }, () => server.close(() => resolve(true)));
  });
}
