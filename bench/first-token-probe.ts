// A process of its own, so that nothing else of a bench makes its answers late: asks for one token again and again, in turn of a router and
// of a replica behind it, at even times whatever has been answered. Prints the milliseconds to each first token.
// usage: first-token-probe.ts ROUTER REPLICA SECONDS
import { credentials, type ClientReadableStream } from '@grpc/grpc-js';
import { EngineClient } from '../gen/proto/internvl/engine/v1/engine.ts';
import { GenerateRequest, InferenceClient, Role } from '../gen/proto/internvl/v1/inference.ts';

const EVERY_MS = 10;
/** About as many as the router's prompt has. */
const PROMPT_TOKENS = 37;

export interface FirstTokens {
  readonly routed: readonly number[];
  readonly direct: readonly number[];
}

/** Milliseconds from `due` to the first token. */
function firstToken<Message>(
  due: number,
  answer: ClientReadableStream<Message>,
  isToken: (message: Message) => boolean,
): Promise<number> {
  return new Promise((resolve, reject) => {
    answer.on('data', (message: Message) => {
      if (isToken(message)) resolve(performance.now() - due);
    });
    answer.on('error', reject);
  });
}

const [router = '', replica = '', seconds = ''] = process.argv.slice(2);
const inference = new InferenceClient(router, credentials.createInsecure());
const engine = new EngineClient(replica, credentials.createInsecure());
const sampling = { maxTokens: 1, temperature: 0, stop: [], stopTokenIds: [], ignoreEos: true };
const routedRequest = GenerateRequest.fromPartial({
  messages: [{ role: Role.USER, parts: [{ part: { $case: 'text', value: 'How many shapes are there?' } }] }],
  sampling,
});
const directRequest = { tokenIds: Array.from({ length: PROMPT_TOKENS }, (_, i) => 100 + i), sampling };

const routed = (due: number): Promise<number> =>
  firstToken(due, inference.generate(routedRequest), ({ event }) => event?.$case === 'delta');
const direct = (due: number): Promise<number> =>
  firstToken(due, engine.generate(directRequest), ({ tokenIds }) => tokenIds.length > 0);

await routed(performance.now());
await direct(performance.now());
const asked = { routed: [] as Promise<number>[], direct: [] as Promise<number>[] };
const start = performance.now();
for (let i = 0; i * EVERY_MS < Number(seconds) * 1000; i++) {
  // Not in step with the replicas, whose steps take as long.
  const due = start + i * EVERY_MS + Math.random() * EVERY_MS;
  await new Promise((resolve) => setTimeout(resolve, Math.max(0, due - performance.now())));
  if (i % 2 === 0) asked.routed.push(routed(due));
  else asked.direct.push(direct(due));
}
const result: FirstTokens = {
  routed: await Promise.all(asked.routed),
  direct: await Promise.all(asked.direct),
};
process.stdout.write(JSON.stringify(result));
inference.close();
engine.close();
