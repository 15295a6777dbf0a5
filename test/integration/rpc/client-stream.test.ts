// Our client's end of a stream against servers of grpc-js.

import { once } from 'node:events';
import { createServer as createTcpServer, type AddressInfo } from 'node:net';
import { Server, ServerCredentials, status, type ServerDuplexStream } from '@grpc/grpc-js';
import { afterEach, expect, it } from 'vitest';
import { ClientStream } from '../../../rpc/grpc/client-stream.ts';

const bytes = (value: Buffer): Buffer => value;
const TALK = {
  path: '/test.Echo/Talk',
  requestStream: true,
  responseStream: true,
  requestSerialize: bytes,
  requestDeserialize: bytes,
  responseSerialize: bytes,
  responseDeserialize: (value: Buffer): Buffer => {
    if (value.toString() === 'bad') throw new Error('no message');
    return value;
  },
} as const;
const LIMIT = 1 << 20;

const cleanups: (() => void)[] = [];
afterEach(() => {
  for (const cleanup of cleanups.splice(0)) cleanup();
});

type Call = ServerDuplexStream<Buffer, Buffer>;

async function open(
  handler: (call: Call) => void,
  path: string = TALK.path,
): Promise<ClientStream<Buffer, Buffer>> {
  const server = new Server();
  server.addService({ talk: TALK }, { talk: handler });
  const port = await new Promise<number>((resolve, reject) =>
    server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, bound) =>
      error ? reject(error) : resolve(bound),
    ),
  );
  cleanups.push(() => server.forceShutdown());
  const stream = new ClientStream(`127.0.0.1:${port}`, { ...TALK, path }, LIMIT);
  cleanups.push(() => stream.cancel());
  return stream;
}

const failure = async (stream: ClientStream<Buffer, Buffer>): Promise<string> =>
  ((await once(stream, 'error')) as [Error])[0].message;

it('sends and receives messages of every size, in order, then the end', async () => {
  const stream = await open((call) => {
    call.on('data', (value: Buffer) => {
      call.write(value);
      if (value.length === 3) call.end();
    });
  });
  const sent = [0, 1, 16_379, 70_000, LIMIT, 3].map((size) => Buffer.alloc(size, String(size)));
  for (const each of sent) stream.write(each);
  const received: Buffer[] = [];
  stream.on('data', (value) => received.push(value));
  await once(stream, 'end');
  expect(received.map((value, index) => value.equals(sent[index]!))).toEqual(sent.map(() => true));
});

it.each<[string, (call: Call) => void, RegExp]>([
  [
    'the status that ended it',
    (call) => call.emit('error', { code: status.RESOURCE_EXHAUSTED, details: 'zu groß' }),
    /8 RESOURCE_EXHAUSTED: zu groß/,
  ],
  ['a message that is too large', (call) => call.write(Buffer.alloc(2 * LIMIT)), /too large/],
  ['a message that is none', (call) => call.write(Buffer.from('bad')), /not valid protobuf: no message/],
])('tells %s', async (_, handler, text) => {
  const stream = await open(handler);
  stream.write(Buffer.from('x'));
  expect(await failure(stream)).toMatch(text);
});

it('tells of a method that there is not', async () => {
  expect(await failure(await open(() => undefined, '/test.Echo/Nothing'))).toMatch(/12 UNIMPLEMENTED/);
});

it('tells of a server that is not there, is no gRPC, or goes', async () => {
  const server = createTcpServer((socket) => socket.resume().end('HTTP/1.1 400 Bad Request\r\n\r\n'));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const odd = new ClientStream(`127.0.0.1:${port}`, TALK, LIMIT);
  expect(await failure(odd)).not.toBe('');
  await new Promise((resolve) => server.close(resolve));
  const nobody = new ClientStream(`127.0.0.1:${port}`, TALK, LIMIT);
  expect(await failure(nobody)).toContain('ECONNREFUSED');
  const left = await open(() => undefined);
  left.write(Buffer.from('x'));
  const failed = failure(left);
  await new Promise((resolve) => setTimeout(resolve, 50));
  cleanups[0]!();
  expect(await failed).not.toBe('');
});

it('tells its server when it is cancelled, and nobody else', async () => {
  let gone: () => void = () => undefined;
  const cancelled = new Promise<void>((resolve) => (gone = resolve));
  const stream = await open((call) => {
    call.on('cancelled', gone);
    call.write(Buffer.from('hello'));
  });
  await once(stream, 'data');
  const told: unknown[] = [];
  stream.on('error', (error) => told.push(error));
  stream.cancel();
  await cancelled;
  expect(told).toEqual([]);
});
