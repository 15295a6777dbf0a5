// The server's protocol against clients that are not ours: node:http2, grpc-js and bare sockets.

import { once } from 'node:events';
import { connect, constants, type ClientHttp2Session, type ClientHttp2Stream } from 'node:http2';
import { createConnection, type Socket } from 'node:net';
import { gzipSync } from 'node:zlib';
import {
  Client,
  credentials,
  Metadata,
  status,
  type ServerUnaryCall,
  type ServiceError,
} from '@grpc/grpc-js';
import type { ServiceDefinition } from '@grpc/grpc-js';
import { afterEach, describe, expect, it } from 'vitest';
import { GrpcServer, type GrpcServerOptions } from '../../../rpc/grpc/server.ts';
import { FrameType, Flag } from '../../../rpc/http2/protocol.ts';
import {
  data,
  frame,
  framesIn,
  GREETING,
  headers,
  message,
  number,
  REQUEST,
} from '../../support/http2-frames.ts';

const LIMIT = 1 << 20;
const bytes = (value: Buffer): Buffer => value;
const method = (path: string, requestStream: boolean, responseStream: boolean) => ({
  path: `/test.Echo/${path}`,
  requestStream,
  responseStream,
  requestSerialize: bytes,
  requestDeserialize: bytes,
  responseSerialize: bytes,
  responseDeserialize: bytes,
});
const ECHO: ServiceDefinition = {
  call: method('Call', false, false),
  watch: method('Watch', false, true),
  gather: method('Gather', true, false),
  talk: method('Talk', true, true),
};

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).toReversed()) await cleanup();
});

interface Served {
  readonly server: GrpcServer;
  readonly port: number;
  readonly client: Client;
}

const answerSame = (call: ServerUnaryCall<Buffer, Buffer>, callback: (error: null, value: Buffer) => void) =>
  callback(null, call.request);

async function serve(
  implementation: Record<string, unknown> = {},
  options: Partial<GrpcServerOptions> = {},
): Promise<Served> {
  const server = new GrpcServer({
    maxMessageBytes: LIMIT,
    keepaliveMs: 30_000,
    keepaliveTimeoutMs: 10_000,
    maxConcurrentStreams: 100,
    ...options,
  });
  server.addService(ECHO, { call: answerSame, ...implementation });
  const port = await server.bind('127.0.0.1', 0);
  cleanups.push(() => server.forceShutdown());
  const client = new Client(`127.0.0.1:${port}`, credentials.createInsecure(), {
    'grpc.use_local_subchannel_pool': 1,
  });
  cleanups.push(() => client.close());
  return { server, port, client };
}

function http2(port: number): ClientHttp2Session {
  const session = connect(`http://127.0.0.1:${port}`);
  session.on('error', () => undefined);
  cleanups.push(() => session.destroy());
  return session;
}

interface Answer {
  readonly headers: Record<string, unknown>;
  readonly trailers: Record<string, unknown>;
  readonly body: Buffer;
  readonly resetBy: number;
}

function answerOf(stream: ClientHttp2Stream): Promise<Answer> {
  return new Promise((resolve) => {
    let head = {};
    let trailers = {};
    const chunks: Buffer[] = [];
    stream.on('response', (fields) => (head = fields));
    stream.on('trailers', (fields) => (trailers = fields));
    stream.on('data', (chunk: Buffer) => chunks.push(chunk));
    stream.on('error', () => undefined);
    stream.on('close', () =>
      resolve({ headers: head, trailers, body: Buffer.concat(chunks), resetBy: stream.rstCode ?? 0 }),
    );
  });
}

const POST = {
  ':method': 'POST',
  ':path': '/test.Echo/Call',
  'content-type': 'application/grpc+proto',
  te: 'trailers',
};

function unary(client: Client, path: string, body: Buffer, options = {}, metadata = new Metadata()) {
  return new Promise<Buffer>((resolve, reject) => {
    client.makeUnaryRequest(`/test.Echo/${path}`, bytes, bytes, body, metadata, options, (error, value) =>
      error ? reject(error) : resolve(value!),
    );
  });
}

const refused = (call: Promise<unknown>): Promise<ServiceError> =>
  call.then(
    () => Promise.reject(new Error('the call was answered')),
    (error: unknown) => error as ServiceError,
  );

describe('a request', () => {
  it.each<[string, Record<string, string>, Record<string, unknown>]>([
    ['of another content type', { 'content-type': 'application/json' }, { ':status': 415 }],
    ['with another method', { ':method': 'GET' }, { ':status': 405, allow: 'POST' }],
    [
      'for a method that there is not',
      { ':path': '/test.Echo/Nothing' },
      { ':status': 200, 'grpc-status': '12' },
    ],
    [
      'compressed in a way that is not known',
      { 'grpc-encoding': 'snappy' },
      { 'grpc-status': '12', 'grpc-accept-encoding': 'identity,gzip' },
    ],
    ['with huge headers', { x: 'y'.repeat(20_000) }, { 'grpc-status': '8' }],
  ])('%s is answered with headers alone', async (_, changed, expected) => {
    const { port } = await serve();
    const session = http2(port);
    const refusal = await answerOf(session.request({ ...POST, ...changed }, { endStream: true }));
    expect(refusal.headers).toMatchObject(expected);
    expect(refusal.body).toHaveLength(0);
    const good = session.request(POST);
    good.end(message('hello'));
    expect(await answerOf(good)).toMatchObject({
      body: message('hello'),
      trailers: { 'grpc-status': '0' },
    });
  });

  it.each<[string, Buffer, string, string]>([
    ['without a message', Buffer.alloc(0), '13', 'none came'],
    ['with two messages', Buffer.concat([message('a'), message('b')]), '13', 'more came'],
    ['that ends in mid-message', message('hello').subarray(0, 7), '13', 'middle of a message'],
    ['with a flag that is none', message('a', 2), '13', 'flag is 2'],
    ['compressed without saying how', message(gzipSync('a'), 1), '13', 'without grpc-encoding'],
    ['larger than allowed', Buffer.from('0000200000', 'hex'), '8', String(0x200000)],
  ])('%s fails', async (_, body, code, text) => {
    const { port } = await serve();
    const stream = http2(port).request(POST);
    stream.end(body);
    const { headers: head } = await answerOf(stream);
    expect(head['grpc-status']).toBe(code);
    expect(decodeURIComponent(String(head['grpc-message']))).toContain(text);
  });

  it('may be compressed with gzip; what becomes too large is refused, and so is what is no gzip', async () => {
    const { port } = await serve();
    const session = http2(port);
    const send = (body: Buffer): Promise<Answer> => {
      const stream = session.request({ ...POST, 'grpc-encoding': 'gzip' });
      stream.end(body);
      return answerOf(stream);
    };
    expect((await send(message(gzipSync('hello'), 1))).body).toEqual(message('hello'));
    expect((await send(message('plain'))).body).toEqual(message('plain'));
    expect((await send(message(gzipSync(Buffer.alloc(4 * LIMIT)), 1))).headers['grpc-status']).toBe('8');
    expect((await send(message('no gzip', 1))).headers['grpc-status']).toBe('13');
  });

  it('beyond as many as may be open is refused, for its client to send elsewhere', async () => {
    const { port } = await serve({ talk: () => undefined }, { maxConcurrentStreams: 2 });
    const socket = await raw(port);
    socket.write(GREETING);
    for (const id of [1, 3, 5]) socket.write(headers(id, TALK));
    const seen = await until(socket, (frames) => frames.some(({ type }) => type === FrameType.RST_STREAM));
    expect(seen.at(-1)).toMatchObject({ streamId: 5, payload: number(constants.NGHTTP2_REFUSED_STREAM) });
  });
});

const TALK = REQUEST.map((field) => (field === '/test.Echo/Call' ? '/test.Echo/Talk' : field));

async function raw(port: number): Promise<Socket> {
  const socket = createConnection(port, '127.0.0.1');
  socket.on('error', () => undefined);
  cleanups.push(() => socket.destroy());
  await once(socket, 'connect');
  return socket;
}

/** The frames that came, once they are as expected or the connection has ended. */
function until(
  socket: Socket,
  done: (frames: ReturnType<typeof framesIn>) => boolean,
): Promise<ReturnType<typeof framesIn>> {
  return new Promise((resolve) => {
    let all: Buffer = Buffer.alloc(0);
    let frames: ReturnType<typeof framesIn> = [];
    socket.on('data', (chunk: Buffer) => {
      all = Buffer.concat([all, chunk]);
      try {
        frames = framesIn(all);
      } catch {
        return; // in mid-frame
      }
      if (done(frames)) resolve(frames);
    });
    socket.on('close', () => resolve(frames));
  });
}

const goAwayCode = (frames: ReturnType<typeof framesIn>): number | undefined =>
  frames.find(({ type }) => type === FrameType.GOAWAY)?.payload.readUInt32BE(4);

describe('a connection', () => {
  it.each<[string, number, Buffer]>([
    [
      'that is no HTTP/2',
      constants.NGHTTP2_PROTOCOL_ERROR,
      Buffer.from('GET / HTTP/1.1\r\nhost: x\r\n\r\n\r\n'),
    ],
    [
      'with a frame of more than 16 KiB',
      constants.NGHTTP2_FRAME_SIZE_ERROR,
      Buffer.concat([GREETING, Buffer.from('01000000000000000001', 'hex')]),
    ],
    [
      'that takes its requests back without end',
      constants.NGHTTP2_ENHANCE_YOUR_CALM,
      Buffer.concat([
        GREETING,
        ...Array.from({ length: 300 }, (_, index) =>
          Buffer.concat([headers(2 * index + 1), frame(FrameType.RST_STREAM, 0, 2 * index + 1, number(8))]),
        ),
      ]),
    ],
  ])('%s is told why and closed; others go on', async (_, code, sent) => {
    const { port, client } = await serve();
    const socket = await raw(port);
    socket.write(sent);
    const frames = await until(socket, () => false);
    expect(goAwayCode(frames)).toBe(code);
    expect(await unary(client, 'Call', Buffer.from('still'))).toEqual(Buffer.from('still'));
  });

  it('that reads nothing is not read from either, and holds up nobody', async () => {
    const { port, client } = await serve();
    const socket = await raw(port);
    socket.pause();
    socket.write(GREETING);
    const ping = frame(FrameType.PING, 0, 0, '12345678');
    const pings = Buffer.concat(Array.from({ length: 4_000 }, () => ping));
    let taken = 0;
    // Both kernels' buffers fill, then the server stops reading.
    for (; taken < 2_000 && socket.writableLength < 4 << 20; taken++) {
      socket.write(pings);
      if (socket.writableNeedDrain) await new Promise((resolve) => setTimeout(resolve, 1));
    }
    expect(socket.writableLength).toBeGreaterThan(0);
    expect(await unary(client, 'Call', Buffer.from('other'))).toEqual(Buffer.from('other'));
    socket.resume();
    const acks = await until(socket, (frames) => frames.length > 4_000);
    expect(acks.length).toBeGreaterThan(4_000);
  });

  it('that says nothing is asked whether it is there, and closed when it does not answer', async () => {
    const { port } = await serve({}, { keepaliveMs: 30, keepaliveTimeoutMs: 300 });
    const session = http2(port);
    await once(session, 'ping');
    await once(session, 'ping'); // the first was answered
    expect(session.closed).toBe(false);
    const silent = await raw(port);
    silent.write(GREETING);
    const frames = await until(silent, () => false);
    expect(frames.at(-1)!.type).toBe(FrameType.PING);
  });

  it('lost in mid-stream cancels its calls', async () => {
    let gone: () => void = () => undefined;
    const cancelled = new Promise<void>((resolve) => (gone = resolve));
    const { port } = await serve({
      talk: (call: NodeJS.EventEmitter & { write(value: Buffer): void }) => {
        call.on('cancelled', gone);
        call.write(Buffer.from('hello'));
      },
    });
    const session = http2(port);
    const stream = session.request({ ...POST, ':path': '/test.Echo/Talk' });
    stream.on('error', () => undefined);
    await once(stream, 'data');
    session.destroy();
    await cancelled;
  });
});

describe('a call', () => {
  it('carries metadata both ways, binary too, and a message in any script', async () => {
    const { client } = await serve({
      call: (
        call: ServerUnaryCall<Buffer, Buffer>,
        callback: (error: object | null, value?: Buffer, trailers?: Metadata) => void,
      ) => {
        const trailers = new Metadata();
        trailers.add('x-seen', call.metadata.get('x-text').join());
        trailers.add('x-seen-bin', call.metadata.get('x-data-bin')[0] as Buffer);
        call.sendMetadata(trailers);
        if (call.request.length > 0) callback(null, call.request, trailers);
        else callback({ code: status.NOT_FOUND, details: '100 % — ничего\n', metadata: trailers });
      },
    });
    const metadata = new Metadata();
    metadata.add('x-text', 'a');
    metadata.add('x-text', 'b');
    metadata.add('x-data-bin', Buffer.from([0, 255, 10]));
    const seen: Metadata[] = [];
    await new Promise<void>((resolve, reject) => {
      const call = client.makeUnaryRequest(
        '/test.Echo/Call',
        bytes,
        bytes,
        Buffer.from('x'),
        metadata,
        (error) => (error ? reject(error) : resolve()),
      );
      call.on('metadata', (initial) => seen.push(initial));
      call.on('status', (ended) => seen.push(ended.metadata));
    });
    const error = await refused(unary(client, 'Call', Buffer.alloc(0), {}, metadata));
    expect(error).toMatchObject({ code: status.NOT_FOUND, details: '100 % — ничего\n' });
    for (const each of [...seen, error.metadata]) {
      expect(each.get('x-seen')[0]).toMatch(/^a, ?b$|^a,b$/);
      expect(each.get('x-seen-bin')).toEqual([Buffer.from([0, 255, 10])]);
    }
  });

  it('ends at its deadline, whatever its handler does', async () => {
    const cancelled: string[] = [];
    const { client } = await serve({
      call: (call: NodeJS.EventEmitter) => call.on('cancelled', () => cancelled.push('call')),
    });
    const error = await refused(unary(client, 'Call', Buffer.from('x'), { deadline: Date.now() + 100 }));
    expect(error.code).toBe(status.DEADLINE_EXCEEDED);
    await expect.poll(() => cancelled).toEqual(['call']);
  });

  it('streams both ways, half-closed by its client or not, however large the messages', async () => {
    const { client } = await serve({
      talk: (call: NodeJS.EventEmitter & { write(value: Buffer): boolean; end(): void }) => {
        call.on('data', (value: Buffer) => call.write(value));
        call.on('end', () => call.end());
      },
    });
    const sent = [0, 1, 16_379, 16_384, 70_000, LIMIT, 3].map((size) => Buffer.alloc(size, String(size)));
    const talk = client.makeBidiStreamRequest('/test.Echo/Talk', bytes, bytes);
    const received: Buffer[] = [];
    for (const each of sent) talk.write(each);
    talk.on('data', (value: Buffer) => {
      received.push(value);
      if (received.length === sent.length) talk.end();
    });
    await once(talk, 'end');
    expect(received.map((value, index) => value.equals(sent[index]!))).toEqual(sent.map(() => true));
  });

  it('holds its client back while its handler is paused', async () => {
    let paused: { resume(): void } | undefined;
    let received = 0;
    const { client } = await serve({
      gather: (
        call: NodeJS.EventEmitter & { pause(): void; resume(): void },
        callback: (error: null, value: Buffer) => void,
      ) => {
        call.on('data', (value: Buffer) => {
          if (received === 0) call.pause();
          received += value.length;
        });
        call.on('end', () => callback(null, Buffer.from(String(received))));
        paused = call;
      },
    });
    const answered = new Promise<Buffer>((resolve, reject) => {
      const gather = client.makeClientStreamRequest('/test.Echo/Gather', bytes, bytes, (error, value) =>
        error ? reject(error) : resolve(value!),
      );
      let writes = 0;
      const more = (): void => {
        if (writes++ === 64) gather.end();
        else gather.write(Buffer.alloc(65_536), more);
      };
      more();
    });
    await expect.poll(() => received).toBe(65_536);
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(received).toBe(65_536);
    paused!.resume();
    expect((await answered).toString()).toBe(String(64 * 65_536));
  });

  it('waits for a reader that stops, tells its handler, and goes on with it', async () => {
    let blocked = 0;
    let drained = 0;
    const { port } = await serve({
      watch: (call: NodeJS.EventEmitter & { write(value: Buffer): boolean; end(): void }) => {
        const total = 40;
        let sent = 0;
        const more = (): void => {
          while (sent < total)
            if (sent++ >= 0 && !call.write(Buffer.alloc(50_000, 'w'))) {
              blocked++;
              call.once('drain', () => {
                drained++;
                more();
              });
              return;
            }
          call.end();
        };
        more();
      },
    });
    const stream = http2(port).request({ ...POST, ':path': '/test.Echo/Watch' });
    stream.end(message('go'));
    await once(stream, 'response');
    await expect.poll(() => blocked).toBeGreaterThan(0);
    expect(drained).toBeLessThan(40);
    const { body, trailers } = await answerOf(stream);
    expect(body).toHaveLength(40 * 50_005);
    expect(trailers['grpc-status']).toBe('0');
  });

  it('under way ends well while the server drains, and the next goes nowhere', async () => {
    let finish: () => void = () => undefined;
    const { server, client } = await serve({
      call: (call: ServerUnaryCall<Buffer, Buffer>, callback: (error: null, value: Buffer) => void) => {
        finish = () => callback(null, call.request);
      },
    });
    const answered = unary(client, 'Call', Buffer.from('last'));
    await expect.poll(() => finish.length === 0 && finish.toString().includes('callback')).toBe(true);
    const down = server.tryShutdown();
    await new Promise((resolve) => setTimeout(resolve, 50));
    const error = await refused(unary(client, 'Call', Buffer.from('late'), { deadline: Date.now() + 2_000 }));
    expect([status.UNAVAILABLE, status.DEADLINE_EXCEEDED]).toContain(error.code);
    finish();
    expect(await answered).toEqual(Buffer.from('last'));
    await down;
  });

  it('that is not wanted any more is cut by a forced shutdown', async () => {
    const { server, client } = await serve({ talk: () => undefined });
    const talk = client.makeBidiStreamRequest('/test.Echo/Talk', bytes, bytes);
    talk.write(Buffer.from('x'));
    const failed = once(talk, 'error');
    await new Promise<void>((resolve) => client.waitForReady(Date.now() + 5_000, () => resolve()));
    const down = server.tryShutdown();
    server.forceShutdown();
    await failed;
    await down;
  });
});

it('reads every character of a header that node writes in Huffman code', async () => {
  const { port } = await serve({
    call: (call: ServerUnaryCall<Buffer, Buffer>, callback: (error: null, value: Buffer) => void) =>
      callback(null, Buffer.from(call.metadata.get('x-all').join(''), 'latin1')),
  });
  const all = String.fromCharCode(...Array.from({ length: 94 }, (_, index) => index + 33));
  const stream = http2(port).request({ ...POST, 'x-all': all });
  stream.end(message('x'));
  expect((await answerOf(stream)).body.subarray(5).toString('latin1')).toBe(all);
});

it('shares one write between all that a connection is told in a turn', async () => {
  const calls: { write(value: Buffer): boolean }[] = [];
  const { port } = await serve({ talk: (call: { write(value: Buffer): boolean }) => void calls.push(call) });
  const socket = await raw(port);
  socket.write(GREETING);
  for (let id = 1; id < 100; id += 2) socket.write(headers(id, TALK));
  const chunks: Buffer[] = [];
  socket.on('data', (chunk: Buffer) => chunks.push(chunk));
  await expect.poll(() => calls.length).toBe(50);
  for (const call of calls) call.write(Buffer.from('first'));
  await expect.poll(() => Buffer.concat(chunks).includes('first')).toBe(true);
  await new Promise((resolve) => setTimeout(resolve, 20));
  chunks.length = 0;
  for (const call of calls) call.write(Buffer.from('token'));
  await expect.poll(() => chunks.length).toBe(1);
  expect(framesIn(chunks[0]!)).toHaveLength(50);
});

it('ends a call whose client breaks its stream', async () => {
  const events: string[] = [];
  const { port } = await serve({
    talk: (call: NodeJS.EventEmitter) => {
      for (const event of ['cancelled', 'close']) call.on(event, () => events.push(event));
    },
  });
  const socket = await raw(port);
  socket.write(
    Buffer.concat([GREETING, headers(1, TALK), data(1, message('x'), Flag.END_STREAM), data(1, 'more')]),
  );
  await until(socket, (frames) => frames.some(({ type }) => type === FrameType.RST_STREAM));
  await expect.poll(() => events).toEqual(['cancelled', 'close']);
});
