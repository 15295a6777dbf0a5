import { array, assert, integer, property } from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  data,
  frame,
  framesIn,
  GREETING,
  headers,
  number,
  REQUEST,
  settings,
  type Frame,
} from '../../test/support/http2-frames.ts';
import { encodeHeaders } from './header-encoder.ts';
import { ErrorCode, Flag, FrameType, PREFACE, Setting } from './protocol.ts';
import { ServerSession } from './server-session.ts';
import type { SessionOptions } from './session.ts';
import type { Http2Stream } from './stream.ts';

const OPTIONS: SessionOptions = {
  maxConcurrentStreams: 10,
  maxHeaderListBytes: 1_000,
  streamWindowBytes: 65_535,
  connectionWindowBytes: 100_000,
  now: () => 0,
};
const TRAILERS = encodeHeaders(['grpc-status', '0']);
const END = Flag.END_HEADERS | Flag.END_STREAM;

/** A session whose streams note what they hear. */
class Peer {
  readonly log: string[] = [];
  readonly streams = new Map<number, Http2Stream>();
  readonly session: ServerSession;

  constructor(
    options: Partial<SessionOptions> = {},
    answer: (stream: Http2Stream) => void = () => undefined,
  ) {
    this.session = new ServerSession({ ...OPTIONS, ...options }, (stream, { path }, tooLarge) => {
      const { id } = stream;
      this.streams.set(id, stream);
      this.log.push(`${id} ${tooLarge ? 'too large' : path}`);
      stream.listener = {
        onData: (bytes, start, end) => {
          this.log.push(`${id} data ${bytes.toString('latin1', start, end)}`);
          stream.consumed(end - start);
        },
        onEnd: () => this.log.push(`${id} end`),
        onDrained: () => this.log.push(`${id} drained`),
        onGone: () => this.log.push(`${id} gone`),
        onClosed: () => this.log.push(`${id} closed`),
      };
      answer(stream);
    });
    this.taken();
  }

  /** Feeds bytes and gives back the frames that answer them. */
  tell(...chunks: readonly Buffer[]): Frame[] {
    for (const chunk of chunks) this.session.receive(chunk);
    return this.taken();
  }

  taken(): Frame[] {
    return framesIn(Buffer.from(this.session.outbox.take()));
  }
}

const GOAWAY = (frames: readonly Frame[]): number | undefined =>
  frames.find(({ type }) => type === FrameType.GOAWAY)?.payload.readUInt32BE(4);
const RESETS = (frames: readonly Frame[]): [number, number][] =>
  frames
    .filter(({ type }) => type === FrameType.RST_STREAM)
    .map(({ streamId, payload }) => [streamId, payload.readUInt32BE(0)]);
const BODY = (frames: readonly Frame[], streamId: number): string =>
  frames
    .filter((each) => each.type === FrameType.DATA && each.streamId === streamId)
    .map(({ payload }) => payload.toString('latin1'))
    .join('');

const without = (name: string): string[] =>
  REQUEST.filter((_, index) => REQUEST[index - (index % 2)] !== name);
const { PROTOCOL_ERROR, FRAME_SIZE_ERROR, FLOW_CONTROL_ERROR, STREAM_CLOSED, COMPRESSION_ERROR } = ErrorCode;

describe('a connection', () => {
  it.each<[string, number, Buffer[]]>([
    ['a preface of HTTP/1.1', PROTOCOL_ERROR, [Buffer.from('GET / HTTP/1.1\r\n\r\n')]],
    [
      'a first frame that is not SETTINGS',
      PROTOCOL_ERROR,
      [PREFACE, frame(FrameType.PING, 0, 0, '12345678')],
    ],
    ['a frame of more than 16 KiB', FRAME_SIZE_ERROR, [GREETING, Buffer.from('00400100000000000001', 'hex')]],
    ['PING of 7 bytes', FRAME_SIZE_ERROR, [GREETING, frame(FrameType.PING, 0, 0, '1234567')]],
    ['PING on a stream', PROTOCOL_ERROR, [GREETING, frame(FrameType.PING, 0, 1, '12345678')]],
    ['SETTINGS on a stream', PROTOCOL_ERROR, [GREETING, frame(FrameType.SETTINGS, 0, 1)]],
    ['SETTINGS of 3 bytes', FRAME_SIZE_ERROR, [GREETING, frame(FrameType.SETTINGS, 0, 0, 'abc')]],
    [
      'acknowledged SETTINGS with a payload',
      FRAME_SIZE_ERROR,
      [GREETING, frame(FrameType.SETTINGS, 1, 0, 'abcdef')],
    ],
    ['ENABLE_PUSH 2', PROTOCOL_ERROR, [GREETING, settings([Setting.ENABLE_PUSH, 2])]],
    [
      'a window above 2^31 - 1',
      FLOW_CONTROL_ERROR,
      [GREETING, settings([Setting.INITIAL_WINDOW_SIZE, 2 ** 31])],
    ],
    ['a largest frame below 16 KiB', PROTOCOL_ERROR, [GREETING, settings([Setting.MAX_FRAME_SIZE, 16_383])]],
    ['DATA on stream 0', PROTOCOL_ERROR, [GREETING, data(0, 'x')]],
    ['DATA on an idle stream', PROTOCOL_ERROR, [GREETING, data(1, 'x')]],
    [
      'RST_STREAM on an idle stream',
      PROTOCOL_ERROR,
      [GREETING, frame(FrameType.RST_STREAM, 0, 1, number(0))],
    ],
    [
      'RST_STREAM of 3 bytes',
      FRAME_SIZE_ERROR,
      [GREETING, headers(1), frame(FrameType.RST_STREAM, 0, 1, 'abc')],
    ],
    [
      'WINDOW_UPDATE on an idle stream',
      PROTOCOL_ERROR,
      [GREETING, frame(FrameType.WINDOW_UPDATE, 0, 1, number(1))],
    ],
    ['WINDOW_UPDATE by nothing', PROTOCOL_ERROR, [GREETING, frame(FrameType.WINDOW_UPDATE, 0, 0, number(0))]],
    [
      'a window that overflows',
      FLOW_CONTROL_ERROR,
      [GREETING, frame(FrameType.WINDOW_UPDATE, 0, 0, number(2 ** 31 - 1))],
    ],
    ['HEADERS on stream 0', PROTOCOL_ERROR, [GREETING, headers(0)]],
    ['HEADERS on an even stream', PROTOCOL_ERROR, [GREETING, headers(2)]],
    ['HEADERS on an older stream', STREAM_CLOSED, [GREETING, headers(5), headers(3)]],
    [
      'HEADERS with more padding than frame',
      PROTOCOL_ERROR,
      [GREETING, frame(FrameType.HEADERS, 0x0c, 1, '\xff\x82')],
    ],
    [
      'HEADERS that depend on themselves',
      PROTOCOL_ERROR,
      [GREETING, frame(FrameType.HEADERS, 0x24, 1, Buffer.concat([number(1), Buffer.from([0, 0x82])]))],
    ],
    ['a header block that is none', COMPRESSION_ERROR, [GREETING, frame(FrameType.HEADERS, 4, 1, '\x80')]],
    [
      'DATA between HEADERS and CONTINUATION',
      PROTOCOL_ERROR,
      [GREETING, headers(1, REQUEST, 0), data(1, 'x')],
    ],
    [
      'CONTINUATION of another stream',
      PROTOCOL_ERROR,
      [GREETING, headers(1, REQUEST, 0), frame(FrameType.CONTINUATION, 4, 3)],
    ],
    ['CONTINUATION of nothing', PROTOCOL_ERROR, [GREETING, frame(FrameType.CONTINUATION, 4, 1)]],
    ['PUSH_PROMISE', PROTOCOL_ERROR, [GREETING, frame(FrameType.PUSH_PROMISE, 4, 1, number(2))]],
    ['PRIORITY on stream 0', PROTOCOL_ERROR, [GREETING, frame(FrameType.PRIORITY, 0, 0, 'abcde')]],
    ['GOAWAY of 4 bytes', FRAME_SIZE_ERROR, [GREETING, frame(FrameType.GOAWAY, 0, 0, number(0))]],
  ])('ends at %s', (_, code, chunks) => {
    const peer = new Peer();
    const frames = peer.tell(...chunks);
    expect(GOAWAY(frames)).toBe(code);
    expect(peer.session.ending).toBe(true);
    expect(peer.tell(headers(99, REQUEST, END))).toEqual([]);
  });

  it('ends at CONTINUATIONs without end, at a header block without end, and at requests taken back without end', () => {
    const more = frame(FrameType.CONTINUATION, 0, 1);
    const peers = [
      [headers(1, REQUEST, 0), ...Array.from({ length: 100 }, () => more)],
      [
        headers(1, REQUEST, 0),
        ...Array.from({ length: 10 }, () => frame(FrameType.CONTINUATION, 0, 1, Buffer.alloc(16_000))),
      ],
      Array.from({ length: 20 }, (_, index) =>
        Buffer.concat([headers(2 * index + 1), frame(FrameType.RST_STREAM, 0, 2 * index + 1, number(8))]),
      ),
    ].map((chunks) => GOAWAY(new Peer().tell(GREETING, ...chunks)));
    expect(peers).toEqual(Array(3).fill(ErrorCode.ENHANCE_YOUR_CALM));
  });

  it('answers pings and settings, and ignores what it does not know', () => {
    const peer = new Peer();
    peer.tell(GREETING);
    const frames = peer.tell(
      frame(FrameType.PING, 0, 0, '12345678'),
      frame(77, 0xff, 5, 'whatever'),
      settings([0x99, 1]),
      frame(FrameType.PRIORITY, 0, 7, Buffer.concat([number(5), Buffer.from([1])])),
      frame(FrameType.GOAWAY, 0, 0, Buffer.alloc(8)),
    );
    expect(frames.map(({ type, flags, payload }) => [type, flags, payload.toString()])).toEqual([
      [FrameType.PING, Flag.ACK, '12345678'],
      [FrameType.SETTINGS, Flag.ACK, ''],
    ]);
  });

  it('drains: announces it, takes what was on its way, refuses what comes later, and ends with its last stream', () => {
    const peer = new Peer();
    peer.tell(GREETING, headers(1, REQUEST, END));
    peer.session.drain();
    const [announced, ping] = peer.taken();
    expect(announced!.payload.readUInt32BE(0)).toBe(2 ** 31 - 1);
    peer.tell(headers(3, REQUEST, END));
    const [last] = peer.tell(frame(FrameType.PING, Flag.ACK, 0, ping!.payload));
    expect(last!.payload.readUInt32BE(0)).toBe(3);
    expect(RESETS(peer.tell(headers(5, REQUEST, END)))).toEqual([[5, ErrorCode.REFUSED_STREAM]]);
    expect(peer.log).toEqual(['1 /test.Echo/Call', '1 end', '3 /test.Echo/Call', '3 end']);
    peer.streams.get(1)!.finish(TRAILERS);
    expect(peer.session.ending).toBe(false);
    peer.streams.get(3)!.finish(TRAILERS);
    expect(peer.session.ending).toBe(true);
  });
});

describe('a stream', () => {
  it.each<[string, number, Buffer[]]>([
    ['without :path', PROTOCOL_ERROR, [headers(1, without(':path'))]],
    ['without :method', PROTOCOL_ERROR, [headers(1, without(':method'))]],
    ['with :path twice', PROTOCOL_ERROR, [headers(1, [':path', '/', ...REQUEST])]],
    ['with an unknown pseudo-header', PROTOCOL_ERROR, [headers(1, [':x', '/', ...REQUEST])]],
    ['with a pseudo-header behind others', PROTOCOL_ERROR, [headers(1, [...without(':path'), ':path', '/'])]],
    ['with a header of HTTP/1.1', PROTOCOL_ERROR, [headers(1, [...REQUEST, 'connection', 'close'])]],
    ['with te: gzip', PROTOCOL_ERROR, [headers(1, [...REQUEST, 'te', 'gzip'])]],
    ['with a name in capitals', PROTOCOL_ERROR, [headers(1, [...REQUEST, 'X-Y', 'z'])]],
    [
      'longer than its content-length',
      PROTOCOL_ERROR,
      [headers(1, [...REQUEST, 'content-length', '1']), data(1, 'xy')],
    ],
    [
      'shorter than its content-length',
      PROTOCOL_ERROR,
      [headers(1, [...REQUEST, 'content-length', '3']), data(1, 'xy', 1)],
    ],
    ['with trailers that do not end it', PROTOCOL_ERROR, [headers(1), headers(1, ['x', 'y'])]],
    ['with a pseudo-header in its trailers', PROTOCOL_ERROR, [headers(1), headers(1, [':path', '/'], END)]],
    ['with DATA behind its end', STREAM_CLOSED, [headers(1, REQUEST, END), data(1, 'x')]],
    ['with HEADERS behind its end', STREAM_CLOSED, [headers(1, REQUEST, END), headers(1, ['x', 'y'], END)]],
    [
      'with WINDOW_UPDATE by nothing',
      PROTOCOL_ERROR,
      [headers(1), frame(FrameType.WINDOW_UPDATE, 0, 1, number(0))],
    ],
    [
      'with a window that overflows',
      FLOW_CONTROL_ERROR,
      [headers(1), frame(FrameType.WINDOW_UPDATE, 0, 1, number(2 ** 31 - 1))],
    ],
    ['with PRIORITY of 4 bytes', FRAME_SIZE_ERROR, [headers(1), frame(FrameType.PRIORITY, 0, 1, 'abcd')]],
  ])('is reset %s, and the connection goes on', (_, code, chunks) => {
    const peer = new Peer();
    expect(RESETS(peer.tell(GREETING, ...chunks))).toEqual([[1, code]]);
    peer.tell(headers(3, REQUEST, END));
    expect(peer.log.slice(-2)).toEqual(['3 /test.Echo/Call', '3 end']);
  });

  it('is refused beyond as many as may be open', () => {
    const peer = new Peer({ maxConcurrentStreams: 2 });
    const frames = peer.tell(GREETING, headers(1), headers(3), headers(5));
    expect(RESETS(frames)).toEqual([[5, ErrorCode.REFUSED_STREAM]]);
  });

  it('is told of headers that are too large, and the next ones are understood', () => {
    const peer = new Peer();
    peer.tell(GREETING, headers(1, [...REQUEST, 'x', 'y'.repeat(2_000)], END), headers(3, REQUEST, END));
    expect(peer.log).toEqual(['1 too large', '1 end', '3 /test.Echo/Call', '3 end']);
  });

  it('takes padding and priorities off', () => {
    const block = encodeHeaders(REQUEST);
    const padded = Buffer.concat([Buffer.from([3]), number(0), Buffer.from([9]), block, Buffer.alloc(3)]);
    const peer = new Peer();
    peer.tell(
      GREETING,
      frame(FrameType.HEADERS, Flag.END_HEADERS | Flag.PADDED | Flag.PRIORITY, 1, padded),
      data(1, '\x02hello\0\0', Flag.PADDED | Flag.END_STREAM),
    );
    expect(peer.log).toEqual(['1 /test.Echo/Call', '1 data hello', '1 end']);
  });

  it('resets whoever sends more than its window, and credits what was consumed', () => {
    const peer = new Peer({ streamWindowBytes: 20_000 });
    const frames = peer.tell(GREETING, headers(1), data(1, 'x'.repeat(12_000)));
    expect(
      frames
        .filter(({ type }) => type === FrameType.WINDOW_UPDATE)
        .map(({ payload }) => payload.readUInt32BE(0)),
    ).toEqual([12_000]);
    const deaf = new Peer({ streamWindowBytes: 20_000 }, (stream) => {
      stream.listener = { ...stream.listener!, onData: () => undefined };
    });
    const flood = Array.from({ length: 2 }, () => data(1, 'x'.repeat(12_000)));
    expect(RESETS(deaf.tell(GREETING, headers(1), ...flood))).toEqual([[1, FLOW_CONTROL_ERROR]]);
  });

  it('sends what the windows allow, in turn, and its trailers behind that', () => {
    const peer = new Peer();
    peer.tell(
      GREETING,
      settings([Setting.INITIAL_WINDOW_SIZE, 5]),
      headers(1, REQUEST, END),
      headers(3, REQUEST, END),
    );
    const [one, three] = [peer.streams.get(1)!, peer.streams.get(3)!];
    expect(one.reserve(6)).toBe(-1);
    one.queue(Buffer.from('abcdefg'));
    expect(one.reserve(1)).toBe(-1);
    three.queue(Buffer.from('xyz'));
    one.finish(TRAILERS);
    three.finish(TRAILERS);
    const first = peer.taken();
    expect([BODY(first, 1), BODY(first, 3)]).toEqual(['abcde', 'xyz']);
    expect(peer.log.filter((line) => line.endsWith('closed'))).toEqual(['3 closed']);
    const second = peer.tell(frame(FrameType.WINDOW_UPDATE, 0, 1, number(100)));
    expect(BODY(second, 1)).toBe('fg');
    expect(second.at(-1)).toMatchObject({ type: FrameType.HEADERS, flags: END, streamId: 1 });
  });

  it("shares the connection's window frame by frame", () => {
    const peer = new Peer();
    peer.tell(GREETING, settings([Setting.INITIAL_WINDOW_SIZE, 1_000_000]), headers(1), headers(3));
    const [one, three] = [peer.streams.get(1)!, peer.streams.get(3)!];
    one.queue(Buffer.alloc(200_000, 'a'));
    three.queue(Buffer.from('short'));
    // 65535 bytes are the first one's; then nobody gets ahead of who waits.
    expect(BODY(peer.taken(), 1)).toHaveLength(65_535);
    expect(three.reserve(1)).toBe(-1);
    const frames = peer.tell(frame(FrameType.WINDOW_UPDATE, 0, 0, number(20_000)));
    expect([BODY(frames, 3), BODY(frames, 1).length]).toEqual(['short', 20_000 - 5]);
  });

  it('sends nothing but frames of control while the socket is full', () => {
    const peer = new Peer();
    peer.tell(GREETING, headers(1));
    peer.session.setBlocked(true);
    peer.streams.get(1)!.queue(Buffer.from('later'));
    expect(peer.tell(frame(FrameType.PING, 0, 0, '12345678'))).toHaveLength(1);
    peer.session.setBlocked(false);
    expect(BODY(peer.taken(), 1)).toBe('later');
  });

  it("is gone when it is reset or its connection lost, and what comes for it then is nobody's", () => {
    const peer = new Peer();
    peer.tell(GREETING, headers(1), headers(3), frame(FrameType.RST_STREAM, 0, 1, number(8)));
    expect(peer.tell(frame(FrameType.WINDOW_UPDATE, 0, 1, number(8)))).toEqual([]);
    peer.streams.get(3)!.reset(ErrorCode.CANCEL);
    expect(RESETS(peer.tell(data(3, 'x')))).toEqual([[3, ErrorCode.CANCEL]]);
    peer.tell(headers(5));
    peer.session.lost();
    expect(peer.log.filter((line) => line.endsWith('gone'))).toEqual(['1 gone', '5 gone']);
    peer.streams.get(5)!.finish(TRAILERS);
    expect(peer.streams.get(5)!.reserve(1)).toBe(-1);
  });

  it('tells a client that still sends to stop when its answer is complete', () => {
    const peer = new Peer();
    peer.tell(GREETING, headers(1));
    peer.streams.get(1)!.finishNow(TRAILERS);
    expect(RESETS(peer.taken())).toEqual([[1, ErrorCode.NO_ERROR]]);
    expect(peer.tell(data(1, 'late'))).toEqual([]);
  });
});

it('is the same however what comes in is cut', () => {
  const bytes = Buffer.concat([
    GREETING,
    headers(1),
    data(1, 'first'),
    headers(3, REQUEST, 0),
    frame(FrameType.CONTINUATION, Flag.END_HEADERS, 3, encodeHeaders(['x', 'y'])),
    data(1, 'x'.repeat(300), Flag.END_STREAM),
    frame(FrameType.PING, 0, 0, '12345678'),
    data(3, ''),
    frame(FrameType.RST_STREAM, 0, 3, number(8)),
    headers(5, REQUEST, END),
  ]);
  const whole = new Peer();
  const expected = whole.tell(bytes);
  assert(
    property(array(integer({ min: 1, max: bytes.length - 1 }), { maxLength: 40 }), (cuts) => {
      const places = [0, ...cuts.toSorted((a, b) => a - b), bytes.length];
      const peer = new Peer();
      const frames = peer.tell(...places.slice(1).map((to, index) => bytes.subarray(places[index], to)));
      expect(frames).toEqual(expected);
      expect(peer.log).toEqual(whole.log);
    }),
    { seed: 20261130, numRuns: 200 },
  );
  // And byte by byte.
  const peer = new Peer();
  expect(peer.tell(...Array.from(bytes, (byte) => Buffer.from([byte])))).toEqual(expected);
});

it('survives any bytes', () => {
  assert(
    property(array(integer({ min: 0, max: 255 }), { minLength: 1, maxLength: 200 }), (noise) => {
      const peer = new Peer();
      peer.tell(GREETING, headers(1), Buffer.from(noise));
      const [type, flags, streamId] = [noise[0]! % 11, noise[1] ?? 0, (noise[2] ?? 0) % 6];
      const other = new Peer();
      other.tell(GREETING, headers(1), frame(type, flags, streamId, Buffer.from(noise)));
    }),
    { seed: 20261130, numRuns: 2_000 },
  );
});
