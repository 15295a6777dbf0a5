import { EventEmitter } from 'node:events';
import type { Socket } from 'node:net';
import { describe, expect, it } from 'vitest';
import { framesIn, frame, GREETING, headers, number, REQUEST } from '../../test/support/http2-frames.ts';
import { Connection } from './connection.ts';
import { Flusher } from './flusher.ts';
import { Flag, FrameType } from './protocol.ts';
import { ServerSession } from './server-session.ts';
import type { Http2Stream } from './stream.ts';

/** A socket that takes everything at once, or nothing until it is drained. */
class FakeSocket extends EventEmitter {
  /** Copies: the bytes are the connection's again once they are written. */
  readonly written: Buffer[] = [];
  last: ArrayBufferLike | undefined;
  writableLength = 0;
  full = false;
  paused = false;
  ended = false;
  destroyed = false;

  write(bytes: Buffer): boolean {
    this.written.push(Buffer.from(bytes));
    this.last = bytes.buffer;
    if (this.full) this.writableLength += bytes.length;
    return !this.full;
  }

  drain(): void {
    this.full = false;
    this.writableLength = 0;
    this.emit('drain');
  }

  setNoDelay(): void {}
  pause(): void {
    this.paused = true;
  }
  resume(): void {
    this.paused = false;
  }
  end(): void {
    this.ended = true;
  }
  destroy(): void {
    this.destroyed = true;
  }
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(() => setImmediate(resolve)));

async function connected(streams: number) {
  const socket = new FakeSocket();
  const opened: Http2Stream[] = [];
  const session = new ServerSession(
    {
      maxConcurrentStreams: 1_000,
      maxHeaderListBytes: 16_384,
      streamWindowBytes: 65_535,
      connectionWindowBytes: 1 << 20,
      now: () => 0,
    },
    (stream) => void opened.push(stream),
  );
  const connection = new Connection(socket as unknown as Socket, session, {
    flusher: new Flusher(),
    keepaliveMs: 30_000,
    keepaliveTimeoutMs: 10_000,
    onClosed: () => undefined,
  });
  const ids = Array.from({ length: streams }, (_, index) => 2 * index + 1);
  socket.emit('data', Buffer.concat([GREETING, ...ids.map((id) => headers(id, REQUEST, 5))]));
  await turn();
  return { socket, session, connection, opened };
}

const token = (stream: Http2Stream): boolean => {
  const at = stream.reserve(8);
  if (at >= 0) stream.outbox.bytes.write('\0\0\0\0\x03tok', at, 'latin1');
  return at >= 0;
};

describe('Connection', () => {
  it('writes what many streams send in a turn at once, from a buffer that is used again', async () => {
    const { socket, session, opened, connection } = await connected(200);
    const before = connection.writes;
    for (const stream of opened) token(stream);
    await turn();
    const buffer = session.outbox.bytes.buffer;
    for (let step = 0; step < 50; step++) {
      for (const stream of opened) expect(token(stream)).toBe(true);
      await turn();
      socket.emit('data', frame(FrameType.WINDOW_UPDATE, 0, 0, number(200 * 8)));
    }
    expect(connection.writes - before).toBe(51);
    expect(framesIn(socket.written.at(-1)!)).toHaveLength(200);
    // No token cost memory of its own.
    expect(session.outbox.bytes.buffer).toBe(buffer);
  });

  it('leaves a buffer to the socket that still has to write it', async () => {
    const { socket, session, opened } = await connected(1);
    socket.full = true;
    token(opened[0]!);
    await turn();
    const writes = socket.written.length;
    expect(session.outbox.bytes.buffer).not.toBe(socket.last);
    expect(token(opened[0]!)).toBe(false);
    opened[0]!.queue(Buffer.from('later'));
    await turn();
    expect(socket.written).toHaveLength(writes);
    socket.drain();
    expect(framesIn(socket.written.at(-1)!).map(({ payload }) => payload.toString())).toEqual(['later']);
  });

  it('reads nothing more from a peer that does not read its answers', async () => {
    const { socket } = await connected(1);
    socket.full = true;
    const pings = Buffer.concat(Array.from({ length: 1_000 }, () => frame(FrameType.PING, 0, 0, '12345678')));
    let read = 0;
    for (; !socket.paused && read < 100; read++) {
      socket.emit('data', pings);
      await turn();
    }
    expect(read).toBeLessThan(10);
    socket.drain();
    expect(socket.paused).toBe(false);
    const acks = framesIn(Buffer.concat(socket.written)).filter(
      ({ type, flags }) => type === FrameType.PING && flags === Flag.ACK,
    );
    expect(acks).toHaveLength(read * 1_000);
  });

  it('says why before it closes', async () => {
    const { socket } = await connected(1);
    socket.emit('data', frame(FrameType.PING, 0, 9, '12345678'));
    await turn();
    expect(framesIn(socket.written.at(-1)!).at(-1)!.type).toBe(FrameType.GOAWAY);
    expect(socket.ended).toBe(true);
  });
});
