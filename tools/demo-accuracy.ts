// Measures the demo model through the served path: draws fresh pictures, asks about each over gRPC and compares the answers.
// The last line of the output is the share of exactly right answers, `NN.N %`.
import { parseArgs } from 'node:util';
import { credentials, Metadata, type ServiceError } from '@grpc/grpc-js';
import { GenerateRequest, InferenceClient, Role } from '../gen/proto/internvl/v1/inference.ts';
import { drawPicture, renderPicture } from './demo-pictures.ts';
import { chooseQuestion, QUESTION_KINDS, type QuestionKind } from './demo-questions.ts';
import { startDemoServer } from './demo-server.ts';

const USAGE = `usage: demo-accuracy.ts [--seed N] [--count N] [--server HOST:PORT | --model DIR] [--tensor-parallel-size N] [--quantization none|int8|fp8]

Draws --count pictures (default 500) from --seed on (default 1), none of which was used in training, asks one question about each
and prints the share of exactly right answers. Without --server it starts one on examples/demo.yaml.
  --show-wrong    print the wrong answers too
`;
const IN_FLIGHT = 8;
const DEADLINE_MS = 120_000;

interface Outcome {
  seed: number;
  kind: QuestionKind;
  question: string;
  expected: string;
  answer: string;
}

/** Asks one question about the picture of a seed. */
async function ask(client: InferenceClient, seed: number): Promise<Outcome> {
  const picture = drawPicture(seed, 'eval');
  const { kind, question, answer: expected } = chooseQuestion(picture.questions, seed);
  const data = await renderPicture(picture.svg);
  const request = GenerateRequest.fromPartial({
    requestId: `accuracy-${seed}`,
    messages: [
      {
        role: Role.USER,
        parts: [
          { part: { $case: 'image', value: { source: { $case: 'data', value: data } } } },
          { part: { $case: 'text', value: question } },
        ],
      },
    ],
    sampling: { temperature: 0, maxTokens: 64 },
  });
  const answer = await new Promise<string>((done, fail) => {
    client.generateOnce(
      request,
      new Metadata(),
      { deadline: Date.now() + DEADLINE_MS },
      (error: ServiceError | null, result) => {
        if (error !== null) fail(error);
        else done(result.text.trim());
      },
    );
  });
  return { seed, kind, question, expected, answer };
}

async function measure(address: string, firstSeed: number, count: number): Promise<Outcome[]> {
  const client = new InferenceClient(address, credentials.createInsecure());
  const outcomes: Outcome[] = [];
  let next = firstSeed;
  const worker = async (): Promise<void> => {
    while (next < firstSeed + count) {
      outcomes.push(await ask(client, next++));
      if (process.stderr.isTTY) process.stderr.write(`\r${outcomes.length} of ${count}`);
    }
  };
  try {
    await Promise.all(Array.from({ length: Math.min(IN_FLIGHT, count) }, worker));
  } finally {
    client.close();
    if (process.stderr.isTTY) process.stderr.write('\r\u001B[K');
  }
  return outcomes.toSorted((left, right) => left.seed - right.seed);
}

function report(outcomes: readonly Outcome[], showWrong: boolean): string {
  const isRight = ({ answer, expected }: Outcome) => answer === expected;
  const row = (kind: string, asked: readonly Outcome[]) => {
    const right = asked.filter(isRight).length;
    return `${kind.padEnd(10)} ${String(asked.length).padStart(6)} ${String(right).padStart(6)} ${percent(right, asked.length).padStart(8)}`;
  };
  const lines = [
    `${'question'.padEnd(10)} ${'asked'.padStart(6)} ${'right'.padStart(6)} ${'share'.padStart(8)}`,
  ];
  for (const kind of QUESTION_KINDS) {
    const asked = outcomes.filter((outcome) => outcome.kind === kind);
    if (asked.length > 0) lines.push(row(kind, asked));
  }
  if (showWrong) {
    for (const { seed, question, expected, answer } of outcomes.filter((outcome) => !isRight(outcome))) {
      lines.push(
        `seed ${seed}: ${question} -> ${JSON.stringify(answer)}, right is ${JSON.stringify(expected)}`,
      );
    }
  }
  lines.push(percent(outcomes.filter(isRight).length, outcomes.length));
  return lines.join('\n');
}

function percent(right: number, asked: number): string {
  return `${((100 * right) / asked).toFixed(1)} %`;
}

function fail(message: string): never {
  process.stderr.write(`${message}\n\n${USAGE}`);
  process.exit(2);
}

function integer(name: string, text: string, least: number): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < least) {
    fail(`--${name} must be a whole number of at least ${least}, not ${JSON.stringify(text)}`);
  }
  return value;
}

function options() {
  return parseArgs({
    options: {
      seed: { type: 'string', default: '1' },
      count: { type: 'string', default: '500' },
      server: { type: 'string' },
      model: { type: 'string' },
      'tensor-parallel-size': { type: 'string' },
      quantization: { type: 'string' },
      'show-wrong': { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  }).values;
}

let values: ReturnType<typeof options>;
try {
  values = options();
} catch (error) {
  fail(error instanceof Error ? error.message : String(error));
}
if (values.help) {
  process.stdout.write(USAGE);
  process.exit(0);
}
const seed = integer('seed', values.seed, 0);
const count = integer('count', values.count, 1);
const size = values['tensor-parallel-size'];
const tensorParallelSize = size === undefined ? undefined : integer('tensor-parallel-size', size, 1);
const { quantization } = values;
if (
  values.server !== undefined &&
  (values.model !== undefined || size !== undefined || quantization !== undefined)
) {
  fail('--model, --tensor-parallel-size and --quantization start a server of their own: leave out --server');
}
const started =
  values.server === undefined
    ? await startDemoServer({ model: values.model, tensorParallelSize, quantization })
    : undefined;
// Ctrl-C reaches the started server too, which then drains; this process only has to wait for it.
const interrupted = new Promise<never>((_, reject) => {
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.once(signal, () => reject(new Error(`ended by ${signal}`)));
  }
});
try {
  const address = started?.address ?? values.server ?? '';
  const outcomes = await Promise.race([measure(address, seed, count), interrupted]);
  process.stdout.write(`${report(outcomes, values['show-wrong'])}\n`);
} catch (error) {
  process.stderr.write(`demo-accuracy: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
} finally {
  await started?.stop();
}
process.exit();
