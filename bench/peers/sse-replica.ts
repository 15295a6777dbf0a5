// A replica for routers that speak HTTP: OpenAI's chat completions over server-sent events, as fast as our simulated replica. It has the same
// steps: all that wait join at a step's start, and each one under way gets a token at its end, 10 ms later. sse-replica.ts STEP_MS
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

interface Sequence {
  readonly response: ServerResponse;
  readonly stream: boolean;
  left: number;
}

/** Some routers send the newer name on, whichever they were given. */
interface Body {
  readonly max_tokens?: number;
  readonly max_completion_tokens?: number;
  readonly stream?: boolean;
}

const stepMs = Number(process.argv[2]);
const HEAD =
  '{"id":"chatcmpl-0123456789abcdef","object":"chat.completion.chunk","created":1700000000,"model":"bench",';
const TOKEN = `data: ${HEAD}"choices":[{"index":0,"delta":{"content":" word"},"logprobs":null,"finish_reason":null}]}\n\n`;
const LAST = `data: ${HEAD}"choices":[{"index":0,"delta":{"content":" word"},"logprobs":null,"finish_reason":"length"}]}\n\ndata: [DONE]\n\n`;
const WHOLE = `${HEAD}"choices":[{"index":0,"message":{"role":"assistant","content":" word"},"finish_reason":"length"}],"usage":{"prompt_tokens":20,"completion_tokens":1,"total_tokens":21}}`;

let waiting: Sequence[] = [];
let running: Sequence[] = [];
let stepping = false;

function step(): void {
  stepping = true;
  running = running.filter(({ response }) => !response.destroyed).concat(waiting);
  waiting = [];
  if (running.length === 0) {
    stepping = false;
    return;
  }
  setTimeout(() => {
    for (const sequence of running) give(sequence);
    running = running.filter(({ left }) => left > 0);
    step();
  }, stepMs);
}

function give(sequence: Sequence): void {
  sequence.left--;
  const { response, stream, left } = sequence;
  if (left > 0) {
    if (stream) response.write(TOKEN);
  } else response.end(stream ? LAST : WHOLE);
}

async function complete(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  const body = JSON.parse(Buffer.concat(chunks).toString()) as Body;
  const stream = body.stream === true;
  response.writeHead(200, { 'content-type': stream ? 'text/event-stream' : 'application/json' });
  waiting.push({ response, stream, left: body.max_completion_tokens ?? body.max_tokens ?? 1 });
  if (!stepping) step();
}

const server = createServer((request, response) => {
  if (request.method === 'POST' && request.url === '/v1/chat/completions') {
    // A client that left in mid-request is no failure of this server.
    complete(request, response).catch(() => response.destroy());
    return;
  }
  // What routers ask a worker about itself.
  response.writeHead(200, { 'content-type': 'application/json' });
  response.end(
    request.url === '/v1/models'
      ? '{"object":"list","data":[{"id":"bench","object":"model"}]}'
      : '{"model_path":"bench","served_model_name":"bench","status":"ok"}',
  );
});
server.listen(0, '127.0.0.1', () => {
  const { port } = server.address() as AddressInfo;
  console.log(JSON.stringify({ message: 'listening', address: `127.0.0.1:${port}` }));
});
process.on('SIGTERM', () => process.exit(0));
