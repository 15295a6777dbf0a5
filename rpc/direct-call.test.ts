import { EventEmitter } from 'node:events';
import { Metadata, type ServerInterceptingCallInterface } from '@grpc/grpc-js';
import { describe, expect, it } from 'vitest';
import { directCall, rememberCall, type StreamingCall } from './direct-call.ts';
import { StreamWriter } from './writer.ts';

type Method = Parameters<typeof rememberCall>[0];
type Listener = Parameters<ServerInterceptingCallInterface['start']>[0];

/** What grpc-js has behind its stream; a message is written when the test says so. */
class FakeTransport {
  readonly sent: string[] = [];
  readonly #written: (() => void)[] = [];
  listener: Listener | undefined;

  start(listener: Listener): void {
    this.listener = listener;
  }

  sendMessage(message: string, written: () => void): void {
    this.sent.push(message);
    this.#written.push(written);
  }

  write(count: number): void {
    for (const written of this.#written.splice(0, count)) written();
  }
}

class FakeStream extends EventEmitter {
  readonly metadata: Metadata;
  readonly written: string[] = [];
  ended = false;

  constructor(metadata: Metadata) {
    super();
    this.metadata = metadata;
  }

  write(message: string): boolean {
    this.written.push(message);
    return true;
  }

  end(): void {
    this.ended = true;
  }
}

/** A call as the handler of a method gets it. */
function call(method: Partial<Method>): {
  readonly transport: FakeTransport;
  readonly stream: FakeStream & StreamingCall<string>;
} {
  const transport = new FakeTransport();
  const behind = transport as unknown as ServerInterceptingCallInterface;
  let metadata = new Metadata();
  rememberCall(method as Method, behind).start({
    onReceiveMetadata: (received) => (metadata = received),
    onReceiveMessage: () => undefined,
    onReceiveHalfClose: () => undefined,
    onCancel: () => undefined,
  });
  transport.listener!.onReceiveMetadata(metadata);
  return { transport, stream: new FakeStream(metadata) };
}

describe('directCall', () => {
  it('writes messages past the stream, in order, and ends through it', () => {
    const { transport, stream } = call({ requestStream: false, responseStream: true });
    const direct = directCall(stream);
    expect(direct.write('a')).toBe(true);
    expect(direct.write('b')).toBe(true);
    direct.end();
    expect(transport.sent).toEqual(['a', 'b']);
    expect(stream.written).toEqual([]);
    expect(stream.ended).toBe(true);
  });

  it('makes a writer wait behind sixteen unwritten messages until all are written', () => {
    const { transport, stream } = call({ requestStream: false, responseStream: true });
    const writer = new StreamWriter(directCall(stream), { byteLength: () => 10 });
    for (let i = 0; i < 20; i++) expect(writer.write(String(i))).toBe(true);
    expect(transport.sent).toHaveLength(16);
    expect(writer.queuedBytes).toBe(40);
    transport.write(15);
    expect(transport.sent).toHaveLength(16);
    writer.end();
    expect(stream.ended).toBe(false);
    transport.write(1);
    expect(transport.sent).toEqual(Array.from({ length: 20 }, (_, i) => String(i)));
    expect(stream.ended).toBe(true);
  });

  it('is the stream itself for other methods', () => {
    const { stream } = call({ requestStream: true, responseStream: true });
    expect(directCall(stream)).toBe(stream);
  });
});
