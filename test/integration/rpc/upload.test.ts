// Uploads by our own client, to our own server and to grpc-js's.

import { readFileSync } from 'node:fs';
import { createServer as createHttp2Server, type ServerHttp2Session } from 'node:http2';
import { createServer as createTcpServer, type AddressInfo, type Socket } from 'node:net';
import {
  Server,
  ServerCredentials,
  status,
  type ServerReadableStream,
  type UntypedServiceImplementation,
} from '@grpc/grpc-js';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { ClientChannel } from '../../../rpc/grpc/client-channel.ts';
import type { SplitMessage } from '../../../rpc/grpc/upload.ts';
import { createServer } from '../../../rpc/server.ts';
import { RpcError, toServiceError } from '../../../rpc/status.ts';

const bytes = (value: Buffer): Buffer => value;
const PUT = {
  path: '/test.Files/Put',
  requestStream: true,
  responseStream: false,
  requestSerialize: bytes,
  requestDeserialize: bytes,
  responseSerialize: bytes,
  responseDeserialize: bytes,
} as const;
const CALL = { maxMessageBytes: 1 << 16, timeoutMs: 60_000 };
const MOST_MESSAGE_BYTES = 1 << 20;
const PIECE = 256 * 1024;

type Call = ServerReadableStream<Buffer, Buffer>;
type Answer = (error: unknown, value?: Buffer) => void;
type Handler = (call: Call, answer: Answer) => void;

const descriptors = readFileSync(new URL('../../../gen/descriptors.binpb', import.meta.url));
const implementing = (put: Handler) => ({ put }) as unknown as UntypedServiceImplementation;

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).toReversed()) await cleanup();
});

const SERVERS: Readonly<Record<string, (put: Handler) => Promise<string>>> = {
  async ours(put) {
    const server = createServer({
      maxMessageBytes: MOST_MESSAGE_BYTES,
      services: [{ definition: { put: PUT }, implementation: implementing(put) }],
      descriptors,
    });
    cleanups.push(() => server.shutdown(0));
    return await server.bind('127.0.0.1:0');
  },
  async 'grpc-js’s'(put) {
    const server = new Server({ 'grpc.max_receive_message_length': MOST_MESSAGE_BYTES });
    // Which makes no status of an RpcError by itself.
    const asStatus =
      (answer: Answer): Answer =>
      (error, value) =>
        answer(error === null ? null : toServiceError(error), value);
    server.addService(
      { put: PUT },
      implementing((call, answer) => put(call, asStatus(answer))),
    );
    cleanups.push(() => server.forceShutdown());
    const port = await new Promise<number>((resolve, reject) =>
      server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, bound) =>
        error ? reject(error) : resolve(bound),
      ),
    );
    return `127.0.0.1:${port}`;
  },
};

function channelTo(address: string, idleMs?: number): ClientChannel {
  const channel = new ClientChannel(address, idleMs === undefined ? {} : { idleMs });
  cleanups.push(() => channel.close());
  return channel;
}

/** Answers with what it was sent, in length and sum, once that is whole. */
const digest: Handler = (call, answer) => {
  const parts: Buffer[] = [];
  call.on('data', (part: Buffer) => parts.push(part));
  call.on('end', () => answer(null, summary(parts)));
};

function summary(parts: readonly Buffer[]): Buffer {
  return Buffer.from(
    parts.map((part) => `${part.length}:${part.reduce((sum, byte) => sum + byte, 0)}`).join(' '),
  );
}

const split = (head: number, body: number): SplitMessage => ({
  head: Buffer.alloc(head, 3),
  body: Buffer.alloc(body, body % 251),
});
const joined = ({ head, body }: SplitMessage): Buffer => Buffer.concat([head, body]);

/** Counts the messages that are asked for. */
class Counted implements Iterable<SplitMessage> {
  readonly #count: number;
  made = 0;

  constructor(count: number) {
    this.#count = count;
  }

  *[Symbol.iterator](): Generator<SplitMessage, void> {
    while (this.made < this.#count) {
      this.made++;
      yield split(8, PIECE);
    }
  }
}

const refused = (upload: Promise<unknown>): Promise<RpcError> =>
  upload.then(
    () => Promise.reject(new Error('the upload was taken')),
    (error: unknown) => error as RpcError,
  );

describe.each(Object.entries(SERVERS))('an upload to %s server', (_, serve) => {
  it.each<[string, readonly (readonly [head: number, body: number])[]]>([
    ['no message', []],
    ['an empty one', [[0, 0]]],
    ['one without a body', [[5, 0]]],
    ['one without a head', [[0, 7]]],
    ['a small one', [[40, 30_000]]],
    [
      'several',
      [
        [40, PIECE],
        [4, PIECE],
        [4, 17],
      ],
    ],
    ['20 MB', Array.from({ length: 80 }, () => [4, PIECE] as const)],
  ])('takes %s whole and in order', async (_name, sizes) => {
    const channel = channelTo(await serve(digest));
    const messages = sizes.map(([head, body]) => split(head, body));
    const answer = await channel.upload(PUT, messages, CALL);
    expect(answer.toString()).toBe(summary(messages.map(joined)).toString());
  });

  it('ends with the status that the server gives before it has read all, and sends no more', async () => {
    const address = await serve((call, answer) => {
      call.once('data', () => answer(new RpcError(status.INVALID_ARGUMENT, 'IMAGE_FORMAT', 'no picture: ü')));
    });
    const messages = new Counted(400);
    const error = await refused(channelTo(address).upload(PUT, messages, CALL));
    expect(error).toBeInstanceOf(RpcError);
    expect(error).toMatchObject({ code: status.INVALID_ARGUMENT, reason: 'IMAGE_FORMAT' });
    expect(error.message).toContain('no picture: ü');
    expect(messages.made).toBeLessThan(400);
  });

  it('keeps at most one message waiting for a server that does not read, until its time is over', async () => {
    const messages = new Counted(1000);
    const channel = channelTo(await serve((call) => call.pause()));
    const error = await refused(channel.upload(PUT, messages, { ...CALL, timeoutMs: 400 }));
    expect(error.code).toBe(status.DEADLINE_EXCEEDED);
    // What windows and sockets hold, a few megabytes, and one.
    expect(messages.made).toBeLessThan(100);
  });

  it('goes on beside one that has stalled, on the same connection', async () => {
    let calls = 0;
    const address = await serve((call, answer) => {
      if (calls++ === 0) call.pause();
      else digest(call, answer);
    });
    const channel = channelTo(address);
    const stalled = refused(channel.upload(PUT, [split(1, 100)], CALL));
    await vi.waitFor(() => expect(calls).toBe(1));
    const answers = [1, 2].map((body) => channel.upload(PUT, [split(0, body)], CALL));
    expect((await Promise.all(answers)).map(String)).toEqual(['1:1', '2:4']);
    expect(channel.connections).toBe(1);
    channel.close();
    expect(await stalled).toMatchObject({ code: status.UNAVAILABLE });
  });

  it('fails when its messages cannot be made, and the server is told', async () => {
    let cancelled = false;
    const channel = channelTo(await serve((call) => call.on('cancelled', () => (cancelled = true)).resume()));
    const broken = (function* () {
      yield split(1, 1);
      throw new Error('the file is gone');
    })();
    await expect(channel.upload(PUT, broken, CALL)).rejects.toThrow('the file is gone');
    await vi.waitFor(() => expect(cancelled).toBe(true));
  });
});

describe('a channel', () => {
  it('says which server it could not reach, or lost', async () => {
    const sockets: Socket[] = [];
    const server = createTcpServer((socket) => sockets.push(socket.resume()));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const address = `127.0.0.1:${(server.address() as AddressInfo).port}`;
    const channel = channelTo(address);
    const lost = refused(channel.upload(PUT, new Counted(1000), CALL));
    await vi.waitFor(() => expect(sockets).toHaveLength(1));
    sockets[0]!.destroy();
    const closed = await lost;
    expect(closed.code).toBe(status.UNAVAILABLE);
    expect(closed.message).toContain(address);
    await new Promise((resolve) => server.close(resolve));
    const nobody = await refused(channel.upload(PUT, [split(1, 1)], CALL));
    expect(nobody.code).toBe(status.UNAVAILABLE);
    expect(nobody.message).toContain(address);
    expect(nobody.message).toContain('ECONNREFUSED');
  });

  it('goes on with another connection when a server wants no more calls on one, and lets its calls end', async () => {
    const sessions: ServerHttp2Session[] = [];
    const held: (() => void)[] = [];
    const server = createHttp2Server();
    server.on('session', (session) => sessions.push(session));
    server.on('stream', (stream) => {
      stream.resume();
      stream.on('end', () => {
        const reply = () => {
          stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true });
          stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
          stream.end(Buffer.from([0, 0, 0, 0, 1, 65]));
        };
        if (sessions.length === 1) held.push(reply);
        else reply();
      });
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    cleanups.push(
      () => server.close(),
      () => sessions.forEach((session) => session.destroy()),
    );
    const channel = channelTo(`127.0.0.1:${(server.address() as AddressInfo).port}`);
    const first = channel.upload(PUT, [split(1, 1)], CALL);
    await vi.waitFor(() => expect(held).toHaveLength(1));
    sessions[0]!.goaway(0, 1);
    // Until the news is there, a call may still begin on the old connection, and is then answered by `held`.
    await vi.waitFor(async () => {
      const second = channel.upload(PUT, [split(1, 1)], { ...CALL, timeoutMs: 100 });
      await expect(second).resolves.toEqual(Buffer.from('A'));
    });
    expect(sessions).toHaveLength(2);
    held[0]!();
    await expect(first).resolves.toEqual(Buffer.from('A'));
    // The other end has a second to close as well.
    await vi.waitFor(() => expect(channel.connections).toBe(1), 5_000);
  });

  it('closes a connection that nobody uses, and makes another when it is needed', async () => {
    const channel = channelTo(await SERVERS['ours']!(digest), 20);
    for (let round = 0; round < 2; round++) {
      await channel.upload(PUT, [split(1, 1)], CALL);
      await vi.waitFor(() => expect(channel.connections).toBe(0));
    }
  });

  it('takes no call any more once it is closed', async () => {
    const channel = channelTo(await SERVERS['ours']!(digest));
    channel.close();
    expect(await refused(channel.upload(PUT, [], CALL))).toMatchObject({
      code: status.UNAVAILABLE,
      reason: 'CLOSED',
    });
  });
});
