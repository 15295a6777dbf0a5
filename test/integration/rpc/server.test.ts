import { readFileSync } from 'node:fs';
import { createConnection, createServer as createTcpServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { Client, credentials, loadPackageDefinition, status } from '@grpc/grpc-js';
import type { ServiceError } from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { protoPath } from 'grpc-health-check';
import { Registry } from 'prom-client';
import { afterEach, describe, expect, it } from 'vitest';
import { EngineMessage, EngineService } from '../../../gen/proto/internvl/engine/v1/engine.ts';
import type { EngineServer } from '../../../gen/proto/internvl/engine/v1/engine.ts';
import { clientChannelOptions } from '../../../rpc/channel.ts';
import { answer } from '../../../rpc/guard.ts';
import { serveMetrics } from '../../../rpc/metrics-server.ts';
import { createServer } from '../../../rpc/server.ts';
import type { RpcServer } from '../../../rpc/server.ts';
import { RpcError, parseDetails } from '../../../rpc/status.ts';
import { StreamWriter } from '../../../rpc/writer.ts';

const descriptors = readFileSync(new URL('../../../gen/descriptors.binpb', import.meta.url));
const LIMIT = 1 << 20;
const cleanups: (() => Promise<void> | void)[] = [];

afterEach(async () => {
  for (const cleanup of cleanups.splice(0).toReversed()) await cleanup();
});

async function start(
  implementation: Partial<EngineServer>,
): Promise<{ server: RpcServer; address: string; client: Client }> {
  const server = createServer({
    maxMessageBytes: LIMIT,
    services: [{ definition: EngineService, implementation: implementation as EngineServer }],
    descriptors,
  });
  const address = await server.bind('127.0.0.1:0');
  cleanups.push(() => server.shutdown(0));
  const client = new Client(
    address,
    credentials.createInsecure(),
    clientChannelOptions({ maxMessageBytes: 64 << 20 }),
  );
  cleanups.push(() => client.close());
  return { server, address, client };
}

/** A unary call with bytes as they are. */
function call(client: Client, path: string, bytes: Buffer): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    client.makeUnaryRequest(
      path,
      (value: Buffer) => value,
      (value: Buffer) => value,
      bytes,
      (err, response) => (err ? reject(err) : resolve(response ?? Buffer.alloc(0))),
    );
  });
}

const refused = (promise: Promise<unknown>): Promise<ServiceError> =>
  promise.then(
    () => Promise.reject(new Error('the call was answered')),
    (err: unknown) => err as ServiceError,
  );

const GET_INFO = '/internvl.engine.v1.Engine/GetInfo';
const SESSION = '/internvl.engine.v1.Engine/Session';
const drain = { drain: answer(() => ({ running: 1, waiting: 2 })) } as unknown as Partial<EngineServer>;

interface ReflectionStream extends AsyncIterable<{
  listServicesResponse: { service: { name: string }[] };
  fileDescriptorResponse: { fileDescriptorProto: Buffer[] };
}> {
  write(request: object): void;
  end(): void;
}

interface ReflectionPackage {
  grpc: {
    reflection: {
      v1: {
        ServerReflection: new (...args: unknown[]) => Client & { serverReflectionInfo(): ReflectionStream };
      };
    };
  };
}

interface HealthClient extends Client {
  check(request: object, callback: (err: Error | null, response: { status: string }) => void): void;
  watch(request: object): AsyncIterable<{ status: string }> & { cancel(): void };
}

function healthClient(address: string): HealthClient {
  const grpc = loadPackageDefinition(loadSync(protoPath, { enums: String, defaults: true })) as unknown as {
    grpc: { health: { v1: { Health: new (...args: unknown[]) => HealthClient } } };
  };
  const client = new grpc.grpc.health.v1.Health(address, credentials.createInsecure());
  cleanups.push(() => client.close());
  return client;
}

describe('a server', () => {
  it('serves health checks and watches', async () => {
    const { server, address } = await start({});
    const client = healthClient(address);
    const check = (service: string): Promise<string> =>
      new Promise((resolve, reject) =>
        client.check({ service }, (err, response) => (err ? reject(err) : resolve(response.status))),
      );
    expect(await check('')).toBe('NOT_SERVING');
    const watch = client.watch({ service: 'internvl.engine.v1.Engine' });
    const statuses = watch[Symbol.asyncIterator]();
    expect((await statuses.next()).value).toEqual({ status: 'NOT_SERVING' });
    server.setServing(true);
    expect((await statuses.next()).value).toEqual({ status: 'SERVING' });
    expect(await check('internvl.engine.v1.Engine')).toBe('SERVING');
    await expect(check('nobody')).rejects.toMatchObject({ code: status.NOT_FOUND });
  });

  it('lists its services by reflection', async () => {
    const { address } = await start({});
    const path = new URL(
      '../../../node_modules/@grpc/reflection/build/proto/grpc/reflection/v1/reflection.proto',
      import.meta.url,
    );
    const grpc = loadPackageDefinition(loadSync(path.pathname)) as unknown as ReflectionPackage;
    const client = new grpc.grpc.reflection.v1.ServerReflection(address, credentials.createInsecure());
    cleanups.push(() => client.close());
    const stream = client.serverReflectionInfo();
    const answers = stream[Symbol.asyncIterator]();
    stream.write({ listServices: '*' });
    const services = (await answers.next()).value.listServicesResponse.service;
    expect(services.map((service: { name: string }) => service.name).sort()).toEqual([
      'grpc.health.v1.Health',
      'internvl.engine.v1.Engine',
    ]);
    stream.write({ fileContainingSymbol: 'internvl.engine.v1.Engine' });
    const files = (await answers.next()).value.fileDescriptorResponse.fileDescriptorProto;
    expect(files.length).toBeGreaterThan(0);
    // Names that a descriptor rebuilt from a parsed package lacks, and without which strict clients refuse it or print other field names.
    expect(Buffer.concat(files).includes('maxModelLength')).toBe(true);
    for (const [symbol, mapEntry] of [
      ['grpc.health.v1.Health', 'StatusesEntry'],
      ['google.rpc.ErrorInfo', 'MetadataEntry'],
    ] as const) {
      stream.write({ fileContainingSymbol: symbol });
      const { fileDescriptorProto } = (await answers.next()).value.fileDescriptorResponse;
      expect(Buffer.concat(fileDescriptorProto).includes(mapEntry)).toBe(true);
    }
    stream.end();
  });

  it('carries error details to the client', async () => {
    const { client } = await start({
      getInfo: () => {
        throw new RpcError(status.UNAVAILABLE, 'WARMING_UP', 'not warm \ud800yet', { retryAfterMs: 2000 });
      },
    });
    const err = await refused(call(client, GET_INFO, Buffer.alloc(0)));
    expect(err).toMatchObject({ code: status.UNAVAILABLE, details: 'not warm \ufffdyet' });
    expect(parseDetails(err)).toEqual({ reason: 'WARMING_UP', metadata: {}, retryAfterMs: 2000 });
  });

  it('answers INTERNAL for what a handler throws or rejects with, without its text', async () => {
    const { client } = await start({
      getInfo: answer(() => Promise.reject(new Error('secret'))),
      session: () => {
        throw new Error('secret');
      },
    });
    const err = await refused(call(client, GET_INFO, Buffer.alloc(0)));
    expect(err.code).toBe(status.INTERNAL);
    expect(err.details).not.toContain('secret');
    const stream = client.makeBidiStreamRequest(
      SESSION,
      (value: Buffer) => value,
      (value: Buffer) => value,
    );
    stream.resume();
    await expect(new Promise((_, reject) => stream.on('error', reject))).rejects.toMatchObject({
      code: status.INTERNAL,
    });
  });

  it('names limit and size of a message that is too large', async () => {
    const { client } = await start(drain);
    const err = await refused(call(client, '/internvl.engine.v1.Engine/Drain', Buffer.alloc(2 * LIMIT)));
    expect(err.code).toBe(status.RESOURCE_EXHAUSTED);
    expect(err.details).toContain(String(LIMIT));
    expect(err.details).toContain(String(2 * LIMIT));
  });

  it.each([
    ['garbage', Buffer.from([0xff, 0xff, 0xff, 0xff])],
    // RouterMessage{hello{router_id: bytes that are no UTF-8}}
    ['invalid UTF-8', Buffer.from([0x0a, 0x04, 0x0a, 0x02, 0xc3, 0x28])],
    ['a length past the end', Buffer.from([0x0a, 0x7f, 0x0a])],
  ])('refuses %s with INVALID_ARGUMENT and goes on serving others', async (_, bytes) => {
    const { client } = await start({ ...drain, session: (session) => void session.resume() });
    const open = (): ReturnType<Client['makeBidiStreamRequest']> =>
      client.makeBidiStreamRequest(
        SESSION,
        (value: unknown) => value as Buffer,
        (value: Buffer) => value,
      );
    const other = open();
    let otherFailed = false;
    other.on('error', () => (otherFailed = true)).resume();
    const stream = open();
    stream.resume();
    const failed = new Promise<ServiceError>((resolve) => stream.on('error', resolve));
    stream.write(bytes);
    const err = await failed;
    expect(err.code).toBe(status.INVALID_ARGUMENT);
    expect(parseDetails(err).reason).toBe('MALFORMED_MESSAGE');
    await call(client, '/internvl.engine.v1.Engine/Drain', Buffer.alloc(0));
    expect(otherFailed).toBe(false);
    other.cancel();
  });

  it('survives bytes that are no HTTP/2', async () => {
    const { client, address } = await start(drain);
    const port = Number(address.split(':')[1]);
    const socket = createConnection(port, '127.0.0.1');
    const closed = new Promise((resolve) => socket.on('close', resolve));
    socket.on('error', () => undefined);
    socket.end('GET / HTTP/1.1\r\n\r\n\0\xff garbage');
    socket.resume();
    await closed;
    await call(client, '/internvl.engine.v1.Engine/Drain', Buffer.alloc(0));
  });

  it('cuts off a reader that does not read', async () => {
    const message: EngineMessage = {
      message: {
        $case: 'rejected',
        value: { handle: 1, code: 0, message: 'x'.repeat(100_000), reason: '' },
      },
    };
    let cut: () => void = () => undefined;
    const wasCut = new Promise<void>((resolve) => (cut = resolve));
    const { client } = await start({
      ...drain,
      session: (session) => {
        const writer = new StreamWriter<EngineMessage>(session, {
          byteLength: (each) => EngineMessage.encode(each).finish().length,
          maxBytes: 1 << 20,
        });
        while (writer.write(message));
        session.on('close', cut);
        session.on('cancelled', cut);
      },
    });
    const stream = client.makeBidiStreamRequest(
      SESSION,
      (value: Buffer) => value,
      (value: Buffer) => value,
    );
    const failed = new Promise<ServiceError>((resolve) => stream.on('error', resolve));
    stream.pause();
    await wasCut;
    stream.resume();
    expect((await failed).code).toBe(status.RESOURCE_EXHAUSTED);
    await call(client, '/internvl.engine.v1.Engine/Drain', Buffer.alloc(0));
  });

  it('says which port is in use', async () => {
    const taken = createTcpServer();
    await new Promise<void>((resolve) => taken.listen(0, '127.0.0.1', resolve));
    cleanups.push(() => void taken.close());
    const address = `127.0.0.1:${(taken.address() as AddressInfo).port}`;
    const server = createServer({ maxMessageBytes: LIMIT, services: [], descriptors });
    await expect(server.bind(address)).rejects.toMatchObject({ code: 'port_in_use', address });
    await expect(
      serveMetrics({ listen: address, registry: new Registry(), unhealthy: () => undefined }),
    ).rejects.toMatchObject({ code: 'port_in_use' });
    await expect(server.bind('192.0.2.1:0')).rejects.toMatchObject({ code: 'cannot_bind' });
  });

  it('cuts calls that do not end within the grace of a shutdown', async () => {
    const { server, client } = await start({ session: () => undefined });
    const stream = client.makeBidiStreamRequest(
      SESSION,
      (value: Buffer) => value,
      (value: Buffer) => value,
    );
    const failed = new Promise((resolve) => stream.on('error', resolve));
    stream.resume();
    await new Promise<void>((resolve) => client.waitForReady(Date.now() + 10_000, () => resolve()));
    await server.shutdown(20);
    await failed;
  });
});

describe('serveMetrics', () => {
  it('answers /metrics and /healthz', async () => {
    let why: string | undefined = 'loading';
    const metrics = await serveMetrics({
      listen: '127.0.0.1:0',
      registry: new Registry(),
      unhealthy: () => why,
    });
    cleanups.push(() => metrics.close());
    const get = async (path: string): Promise<[number, string]> => {
      const response = await fetch(`http://${metrics.address}${path}`);
      return [response.status, await response.text()];
    };
    expect(await get('/healthz')).toEqual([503, 'loading\n']);
    why = undefined;
    expect(await get('/healthz')).toEqual([200, 'ok\n']);
    expect((await get('/metrics'))[0]).toBe(200);
    expect((await get('/x'))[0]).toBe(404);
  });
});
