import { createServer, type Server } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { assertFree, freePorts, PortInUse } from './ports.ts';

const servers: Server[] = [];

afterEach(async () => {
  await Promise.all(servers.splice(0).map((server) => new Promise((closed) => server.close(closed))));
});

function listen(port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer().once('error', reject);
    servers.push(server);
    server.listen(port, '127.0.0.1', () => {
      const address = server.address();
      resolve(typeof address === 'object' && address !== null ? address.port : 0);
    });
  });
}

describe('freePorts', () => {
  it('gives different ports that can be bound, and passes over taken ones', async () => {
    const first = await freePorts(3, '127.0.0.1', () => 0.5);
    for (const port of first) await listen(port);
    const second = await freePorts(3, '127.0.0.1', () => 0.5);
    expect(new Set([...first, ...second]).size).toBe(6);
    for (const port of second) await listen(port);
  });

  it('stays below the ports of outgoing connections, from any start', async () => {
    const [port] = await freePorts(1, '127.0.0.1', () => 0.9999999);
    expect(port).toBeGreaterThanOrEqual(20_000);
    expect(port).toBeLessThan(32_768);
  });
});

describe('assertFree', () => {
  it('names the address that is taken', async () => {
    const port = await listen(0);
    await expect(assertFree('127.0.0.1', port)).rejects.toThrow(PortInUse);
    await expect(assertFree('127.0.0.1', port)).rejects.toThrow(`127.0.0.1:${port} is in use`);
  });

  it('tells a host that is not of this machine from a taken port', async () => {
    await expect(assertFree('192.0.2.1', 50_051)).rejects.toThrow(/cannot listen on 192\.0\.2\.1:50051/);
  });
});
