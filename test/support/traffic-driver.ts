// Asks a deployment one question after another until SIGTERM, and prints one JSON line when a request starts and one when it has ended.
//   node traffic-driver.ts --target HOST:PORT --questions FILE [--workers N] [--pause-ms N] [--deadline-ms N]
import { readFileSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { credentials, status as codes, type ServiceError } from '@grpc/grpc-js';
import {
  InferenceClient,
  Priority,
  Role,
  type GenerateEvent,
  type GenerateRequest,
} from '../../gen/proto/internvl/v1/inference.ts';
import { clientChannelOptions } from '../../rpc/channel.ts';
import type { TrafficLine, TrafficQuestion } from './traffic.ts';

const { values } = parseArgs({
  options: {
    target: { type: 'string' },
    questions: { type: 'string' },
    workers: { type: 'string', default: '2' },
    'pause-ms': { type: 'string', default: '150' },
    'deadline-ms': { type: 'string', default: '60000' },
  },
});
const { target, questions: file } = values;
if (target === undefined || file === undefined) throw new Error('--target and --questions are needed');
const questions = JSON.parse(readFileSync(file, 'utf8')) as readonly TrafficQuestion[];
const pictures = new Map(questions.map(({ picture }) => [picture, readFileSync(picture)]));
const stopping = new AbortController();
let sequence = 0;
/**
 * grpc-js has no time limit of its own for a connection, and one to a pod that died with its node stays open for minutes: the kernel goes on sending to
 * the place that was chosen first. Other libraries give up after 20 s.
 */
const CONNECT_TIMEOUT_MS = 3_000;

function say(line: TrafficLine): void {
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

function requestOf({ text, picture, tokens }: TrafficQuestion): GenerateRequest {
  const data = pictures.get(picture);
  if (data === undefined) throw new RangeError(`no picture ${picture}`);
  return {
    requestId: '',
    model: '',
    messages: [
      {
        role: Role.USER,
        parts: [
          { part: { $case: 'image', value: { source: { $case: 'data', value: data } } } },
          { part: { $case: 'text', value: text } },
        ],
      },
    ],
    sampling: {
      temperature: 0,
      stop: [],
      stopTokenIds: [],
      ignoreEos: tokens !== undefined,
      maxTokens: tokens ?? 64,
    },
    output: { promptTokenIds: false },
    priority: Priority.UNSPECIFIED,
    affinityKey: '',
    cacheSalt: '',
  };
}

/** A connection of its own, so that the workers meet different routers. */
function connect(): InferenceClient {
  return new InferenceClient(target ?? '', credentials.createInsecure(), {
    ...clientChannelOptions({ maxMessageBytes: 64 << 20, ownConnection: true }),
  });
}

/** Asks once; false when the connection is of no more use. */
async function ask(client: InferenceClient, question: TrafficQuestion, id: number): Promise<boolean> {
  const started = Date.now();
  say({ event: 'started', id, at: started });
  let answer = '';
  let tokens = 0;
  let replica = '';
  let error: ServiceError | undefined;
  let over = false;
  let unconnected = false;
  const call = client.generate(requestOf(question), { deadline: started + Number(values['deadline-ms']) });
  call.on('data', ({ event }: GenerateEvent) => {
    if (event?.$case === 'started') replica = event.value.replica;
    else if (event?.$case === 'delta') {
      answer += event.value.text;
      tokens += event.value.tokenIds.length;
    }
  });
  call.on('error', (cause: ServiceError) => (error = cause));
  client.waitForReady(started + CONNECT_TIMEOUT_MS, (cause) => {
    if (cause === undefined || over) return;
    unconnected = true;
    call.cancel();
  });
  await new Promise((resolve) => call.once('status', resolve));
  over = true;
  const right =
    question.tokens === undefined ? answer === question.answer : answer.startsWith(question.answer);
  const code = unconnected ? codes.UNAVAILABLE : (error?.code ?? codes.OK);
  say({
    event: 'ended',
    id,
    at: Date.now(),
    code: codes[code] ?? 'UNKNOWN',
    message: unconnected ? `no connection within ${CONNECT_TIMEOUT_MS} ms` : (error?.details ?? ''),
    question: question.text,
    answer,
    tokens,
    replica,
    right: error === undefined && right && (question.tokens === undefined || tokens === question.tokens),
  });
  return code !== codes.UNAVAILABLE;
}

async function work(): Promise<void> {
  let client = connect();
  while (!stopping.signal.aborted) {
    const id = sequence++;
    const question = questions[id % questions.length];
    if (question === undefined) throw new RangeError('no questions');
    if (!(await ask(client, question, id))) {
      client.close();
      client = connect();
    }
    await pause(Number(values['pause-ms']));
  }
  client.close();
}

process.on('SIGTERM', () => stopping.abort());
await Promise.all(Array.from({ length: Number(values.workers) }, work));
