// Clients that cost as little as can be, so that what is measured is behind them: HTTP/1.1 with server-sent events for the peers, gRPC over
// bare HTTP/2 for ours.
import { Agent, request as httpRequest, type ClientRequest } from 'node:http';
import { connect, type ClientHttp2Session } from 'node:http2';
import { GenerateEvent, GenerateRequest, Priority, Role } from '../../gen/proto/internvl/v1/inference.ts';

const QUESTION = 'How many shapes are there?';
const CONNECTIONS = 8;

/** Ends when the answer is complete; `onTokens` is told as they come. Rejects when the answer fails or is aborted. */
export interface StreamClient {
  stream(maxTokens: number, onTokens: (count: number) => void, signal: AbortSignal): Promise<void>;
  /** One token, not streamed. */
  once(): Promise<void>;
  close(): void;
}

/** Sends each request to the next of these servers. */
export function sseClient(addresses: readonly string[]): StreamClient {
  const agent = new Agent({ keepAlive: true });
  let next = 0;
  const post = (body: object, signal?: AbortSignal): ClientRequest => {
    const { hostname, port } = new URL(`http://${addresses[next++ % addresses.length]}`);
    const request = httpRequest({
      agent,
      hostname,
      port,
      method: 'POST',
      path: '/v1/chat/completions',
      headers: { 'content-type': 'application/json' },
      ...(signal !== undefined && { signal }),
    });
    request.end(JSON.stringify({ model: 'bench', messages: [{ role: 'user', content: QUESTION }], ...body }));
    return request;
  };
  /** Counts ends of events, one a token, and takes away the last, which closes the stream. */
  const read = (request: ClientRequest, onEvents: (count: number) => void): Promise<void> =>
    new Promise((resolve, reject) => {
      request.on('error', reject);
      request.on('response', (response) => {
        if (response.statusCode !== 200) {
          reject(new Error(`HTTP ${response.statusCode}`));
          response.resume();
          return;
        }
        let previous = 0;
        response.on('data', (chunk: Buffer) => {
          let events = 0;
          for (let at = chunk.indexOf(10); at !== -1; at = chunk.indexOf(10, at + 1))
            if ((at === 0 ? previous : chunk[at - 1]) === 10) events++;
          previous = chunk.at(-1) ?? previous;
          if (events > 0) onEvents(events);
        });
        response.on('error', reject);
        response.on('end', resolve);
      });
    });
  return {
    async stream(maxTokens, onTokens, signal) {
      let left = maxTokens;
      await read(post({ max_tokens: maxTokens, stream: true }, signal), (events) => {
        const tokens = Math.min(left, events);
        left -= tokens;
        if (tokens > 0) onTokens(tokens);
      });
      if (left > 0) throw new Error(`the answer ended ${left} tokens short`);
    },
    once: () => read(post({ max_tokens: 1 }), () => undefined),
    close: () => agent.destroy(),
  };
}

export function grpcClient(address: string): StreamClient {
  const sessions = Array.from({ length: CONNECTIONS }, (): ClientHttp2Session => {
    const session = connect(`http://${address}`);
    // A lost session fails its streams; that tells.
    session.on('error', () => undefined);
    return session;
  });
  let next = 0;
  const call = (
    method: string,
    maxTokens: number,
    onMessage: (message: Buffer) => void,
    signal?: AbortSignal,
  ): Promise<void> =>
    new Promise((resolve, reject) => {
      const session = sessions[next++ % sessions.length] as ClientHttp2Session;
      const stream = session.request(
        {
          ':method': 'POST',
          ':path': `/internvl.v1.Inference/${method}`,
          'content-type': 'application/grpc',
          te: 'trailers',
        },
        signal === undefined ? {} : { signal },
      );
      let grpcStatus = 'none';
      const status = (headers: object) => {
        if ('grpc-status' in headers) grpcStatus = String(headers['grpc-status']);
      };
      stream.on('response', status);
      stream.on('trailers', status);
      let rest: Buffer = Buffer.alloc(0);
      stream.on('data', (chunk: Buffer) => {
        let bytes = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
        while (bytes.length >= 5 && bytes.length >= 5 + bytes.readUInt32BE(1)) {
          const end = 5 + bytes.readUInt32BE(1);
          onMessage(bytes.subarray(5, end));
          bytes = bytes.subarray(end);
        }
        rest = bytes;
      });
      stream.on('error', reject);
      stream.on('close', () =>
        grpcStatus === '0' ? resolve() : reject(new Error(`gRPC status ${grpcStatus}`)),
      );
      stream.end(frame(maxTokens));
    });
  return {
    async stream(maxTokens, onTokens, signal) {
      let left = maxTokens;
      await call(
        'Generate',
        maxTokens,
        (message) => {
          const { event } = GenerateEvent.decode(message);
          if (event?.$case !== 'delta' || event.value.tokenIds.length === 0) return;
          left -= event.value.tokenIds.length;
          onTokens(event.value.tokenIds.length);
        },
        signal,
      );
      if (left > 0) throw new Error(`the answer ended ${left} tokens short`);
    },
    once: () => call('GenerateOnce', 1, () => undefined),
    close: () => {
      for (const session of sessions) session.destroy();
    },
  };
}

const frames = new Map<number, Buffer>();

function frame(maxTokens: number): Buffer {
  const known = frames.get(maxTokens);
  if (known !== undefined) return known;
  const message = GenerateRequest.encode({
    requestId: '',
    model: '',
    messages: [{ role: Role.USER, parts: [{ part: { $case: 'text', value: QUESTION } }] }],
    sampling: { maxTokens, temperature: 0, stop: [], stopTokenIds: [], ignoreEos: true },
    output: undefined,
    priority: Priority.UNSPECIFIED,
    affinityKey: '',
    cacheSalt: '',
  }).finish();
  const bytes = Buffer.alloc(5 + message.length);
  bytes.writeUInt32BE(message.length, 1);
  bytes.set(message, 5);
  frames.set(maxTokens, bytes);
  return bytes;
}
