// `npm run demo`: starts examples/demo.yaml on this machine, asks three questions about a picture, and goes on into a chat when on a terminal.
// --manifest FILE and --picture FILE take others. Exit code 0 when every question was answered.
import { readFile } from 'node:fs/promises';
import { relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { ask } from '../cli/answer.ts';
import { CliError } from '../cli/cli-error.ts';
import { connect } from '../cli/client.ts';
import { toMessages, toRequest, toSampling } from '../cli/conversation.ts';
import { EXIT } from '../cli/exit-codes.ts';
import { interruptSignal } from '../cli/interrupt.ts';
import { progressDisplay } from '../cli/progress-display.ts';
import { asCliError, formatError } from '../cli/report-error.ts';
import { runChat } from '../cli/run-chat.ts';
import { failureOf, runLocal, untilReady } from '../cli/run-local.ts';
import { isTerminal, printable, styler } from '../cli/terminal.ts';
import type { LocalDeployment } from '../local/deployment.ts';
import { readManifest } from '../local/read-manifest.ts';

const QUESTIONS = [
  'What colour is the star?',
  'How many shapes do you see?',
  'What is in the bottom right corner?',
];
const LONGEST_ANSWER = 64;

const here = (path: string) => relative(process.cwd(), fileURLToPath(new URL(`../${path}`, import.meta.url)));
const { values } = parseArgs({
  options: {
    manifest: { type: 'string', default: here('examples/demo.yaml') },
    picture: { type: 'string', default: here('examples/pictures/shapes.png') },
  },
});
const style = styler(process.stdout);
const display = progressDisplay(process.stdout);

try {
  process.exitCode = await demo();
} catch (error) {
  const cliError = asCliError(error);
  process.stderr.write(formatError('demo', cliError));
  process.exitCode = cliError.exitCode;
}

async function demo(): Promise<number> {
  const picture = await readFile(values.picture);
  const deployment = await readManifest(values.manifest);
  const { replicas, tensorParallel } = deployment.spec;
  const interrupt = interruptSignal(() => process.exit(EXIT.interrupted)); // children are killed on exit
  display.note(
    `Starting ${values.manifest}: ${replicas} replica(s), each split over ${tensorParallel.size} rank(s), behind a router.`,
  );
  const local = await runLocal(deployment, { host: '127.0.0.1', grpcPort: 0, display });
  let failed = true;
  try {
    await untilReady(local, interrupt.signal);
    display.done();
    if (!interrupt.signal.aborted)
      await Promise.race([askAll(local, picture, interrupt.signal), failureOf(local)]);
    failed = false;
    if (interrupt.signal.aborted) return EXIT.interrupted;
    if (!process.stdin.isTTY || !isTerminal(process.stdout)) return EXIT.ok;
    // The chat has its own meaning of Ctrl-C.
    interrupt.dispose();
    return await Promise.race([runChat({ server: local.address, image: values.picture }), failureOf(local)]);
  } finally {
    await local.stop({ keepLogs: failed });
    interrupt.dispose();
  }
}

async function askAll(local: LocalDeployment, picture: Uint8Array, signal: AbortSignal): Promise<void> {
  const client = await connect(local.address);
  try {
    display.note(`\nPicture: ${style('bold', values.picture)}`);
    for (const question of QUESTIONS) {
      const messages = toMessages([{ role: 'user', content: question }], [picture]);
      const request = toRequest(messages, toSampling({ temperature: 0, maxTokens: LONGEST_ANSWER }), {
        logprobs: undefined,
        promptTokenIds: false,
      });
      process.stdout.write(`\n${style('cyan', question)}\n`);
      const answer = await ask(client, request, {
        signal,
        onText: (text) => process.stdout.write(printable(text)),
      });
      if (answer.finishReason === 'abort')
        throw new CliError('the answer was ended early', { exitCode: EXIT.failed, code: 'ABORTED' });
      const { timeToFirstTokenMs } = answer.timings;
      process.stdout.write(`  ${style('dim', `(first token after ${timeToFirstTokenMs.toFixed(0)} ms)`)}\n`);
    }
    process.stdout.write('\n');
  } finally {
    client.close();
  }
}
