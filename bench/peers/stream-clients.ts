// Clients that cost as little as can be, so that what is measured is behind them: HTTP/1.1 with server-sent events for the peers, gRPC over
// HTTP/2 for ours.
import { Agent, request as httpRequest, type ClientRequest } from 'node:http';
import { GenerateEvent, GenerateRequest, Priority, Role } from '../../gen/proto/internvl/v1/inference.ts';
import { ClientCall } from '../../rpc/grpc/client-call.ts';
import { ClientConnection } from '../../rpc/grpc/client-connection.ts';

const QUESTION = 'How many shapes are there?';
const CONNECTIONS = 8;
const MOST_MESSAGE_BYTES = 1 << 20;

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
  const connections = Array.from({ length: CONNECTIONS }, () => new ClientConnection(address));
  let next = 0;
  const call = (
    method: string,
    maxTokens: number,
    onMessage: (message: Buffer) => void,
    signal?: AbortSignal,
  ): Promise<void> =>
    new Promise((resolve, reject) => {
      const aborted = () => {
        made.cancel();
        reject(signal?.reason as Error);
      };
      const made = new ClientCall(
        connections[next++ % connections.length] as ClientConnection,
        { path: `/internvl.v1.Inference/${method}`, responseDeserialize: (bytes) => bytes },
        { maxMessageBytes: MOST_MESSAGE_BYTES },
        {
          onMessage,
          onEnd: (failure) => {
            signal?.removeEventListener('abort', aborted);
            if (failure === undefined) resolve();
            else reject(failure);
          },
        },
      );
      signal?.addEventListener('abort', aborted, { once: true });
      made.write(request(maxTokens));
      made.halfClose();
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
      for (const connection of connections) connection.destroy();
    },
  };
}

const requests = new Map<number, Buffer>();

function request(maxTokens: number): Buffer {
  const known = requests.get(maxTokens);
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
  const bytes = Buffer.from(message);
  requests.set(maxTokens, bytes);
  return bytes;
}
