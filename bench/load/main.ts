// `npm run bench:load`: puts a load on a running deployment, and tells how long its answers took.
import { writeFileSync } from 'node:fs';
import { credentials } from '@grpc/grpc-js';
import { Command, CommanderError, InvalidArgumentError } from 'commander';
import { connect, DEFAULT_SERVER, getModel } from '../../cli/client.ts';
import { EXIT } from '../../cli/exit-codes.ts';
import { interruptSignal } from '../../cli/interrupt.ts';
import { parseCount, parseNumber } from '../../cli/option-parsers.ts';
import { asCliError, formatError } from '../../cli/report-error.ts';
import { InferenceClient } from '../../gen/proto/internvl/v1/inference.ts';
import { clientChannelOptions } from '../../rpc/channel.ts';
import { usageError } from '../../cli/cli-error.ts';
import { parseLimits, type Limits } from './goodput.ts';
import { Ahead } from './ahead.ts';
import { runLoad, type Load } from './load.ts';
import { plot } from './plot.ts';
import { describe, nameOf, type LoadResult } from './report.ts';
import { parseMixes, Workload, type Mixes } from './workload.ts';

interface Flags {
  server: string;
  rate?: number[];
  concurrency?: number[];
  duration: number;
  warmUp: number;
  mix: Mixes;
  pictures: number;
  promptWords: number;
  outputTokens: number;
  goodput?: Limits;
  connections: number;
  timeout: number;
  seed: number;
  json?: string;
  plot?: string;
}

const MAX_MESSAGE_BYTES = 256 * 2 ** 20;
const say = (text: string) => console.error(`bench: ${text}`);

const positive = (text: string): number => {
  const value = parseNumber(text);
  if (!(value > 0)) throw new InvalidArgumentError('it must be above 0.');
  return value;
};
const notNegative = (text: string): number => {
  const value = parseNumber(text);
  if (value < 0) throw new InvalidArgumentError('it must be 0 or more.');
  return value;
};
const positiveCount = (text: string): number => positive(String(parseCount(text)));
const share = (text: string): number => {
  const value = parseNumber(text);
  if (value < 0 || value > 1) throw new InvalidArgumentError('it must be from 0 to 1.');
  return value;
};
const list = (parse: (text: string) => number) => (text: string) => text.split(',').map(parse);

const program = new Command('bench:load')
  .exitOverride()
  .description('Puts a load on a running deployment and measures its answers, one load after another.')
  .option('--server <host:port>', 'what to ask', DEFAULT_SERVER)
  .option('--rate <list>', 'open loop: requests a second, Poisson; several between commas', list(positive))
  .option(
    '--concurrency <list>',
    'closed loop: requests at a time; several between commas',
    list(positiveCount),
  )
  .option('--duration <seconds>', 'how long each load is measured', positive, 30)
  .option('--warm-up <seconds>', 'how long each load runs before', notNegative, 5)
  .option(
    '--mix <list>',
    'unique, shared-prefix or shared-image; several with weights: unique:3,shared-image:1',
    parseMixes,
    parseMixes('unique'),
  )
  .option('--pictures <share>', 'of the requests, 0 to 1, bring a picture of their own', share, 0)
  .option('--prompt-words <n>', 'of a question, or of a shared prefix', positiveCount, 32)
  .option('--output-tokens <n>', 'of each answer', positiveCount, 64)
  .option(
    '--goodput <limits>',
    'milliseconds that count as good: ttft:500,itl:50 (also tpot, e2e)',
    parseLimits,
  )
  .option('--connections <n>', 'to the server', positiveCount, 4)
  .option('--timeout <seconds>', 'a request that takes longer has failed', positive, 120)
  .option(
    '--seed <n>',
    'of times and questions; another one finds nothing of before in a cache',
    parseCount,
    1,
  )
  .option('--json <file>', 'the results')
  .option('--plot <file>', 'throughput against latency, as SVG')
  .addHelpText(
    'after',
    `
Times run from when a request was meant to be sent, so that waiting counts wherever it happens. For goodput, itl is the longest pause
between two pieces of an answer and tpot the mean time of a token after the first.  Exit code 1: nothing was answered.

Examples:
  npm run bench:load -- --rate 1,2,4,8 --goodput ttft:500,itl:50 --plot load.svg
  npm run bench:load -- --concurrency 1,8,32 --mix shared-image --output-tokens 16 --json load.json`,
  );

/** Measures every load; on interruption, keeps those that are complete. */
async function measure(flags: Flags, signal: AbortSignal): Promise<LoadResult[]> {
  const loads: Load[] = [
    ...(flags.rate ?? []).map((rate): Load => ({ kind: 'open', rate })),
    ...(flags.concurrency ?? []).map((concurrency): Load => ({ kind: 'closed', concurrency })),
  ];
  if (loads.length === 0) throw usageError('nothing to send: give --rate or --concurrency');
  const clients = Array.from(
    { length: flags.connections },
    () =>
      new InferenceClient(
        flags.server,
        credentials.createInsecure(),
        clientChannelOptions({ maxMessageBytes: MAX_MESSAGE_BYTES, ownConnection: true }),
      ),
  );
  const workload = new Workload({ ...flags, mixes: flags.mix });
  // Numbers run on from load to load: nothing that was unique is asked again.
  const ahead = new Ahead((index) => workload.request(index));
  const results: LoadResult[] = [];
  try {
    for (const [index, load] of loads.entries()) {
      say(`${nameOf(load)}, ${flags.warmUp} s of warm-up and ${flags.duration} s`);
      const measured = await runLoad(load, {
        clients,
        next: () => ahead.next(),
        warmUpMs: flags.warmUp * 1000,
        durationMs: flags.duration * 1000,
        timeoutMs: flags.timeout * 1000,
        seed: (BigInt(flags.seed) << 32n) + BigInt(index),
        limits: flags.goodput,
        signal,
        progress: ({ elapsedMs, sent, ended }) =>
          say(`${(elapsedMs / 1000).toFixed(0)} s, ${sent} sent, ${sent - ended} under way`),
      });
      results.push({ load, ...measured });
      console.log(`${describe({ load, ...measured })}\n`);
    }
  } catch (error) {
    if (!signal.aborted) throw error;
    say('interrupted');
  } finally {
    for (const client of clients) client.close();
  }
  return results;
}

program.action(async (flags: Flags) => {
  const interrupt = interruptSignal(() => process.exit(EXIT.interrupted));
  try {
    const probe = await connect(flags.server);
    const model = await getModel(probe).finally(() => probe.close());
    say(
      `${model.name} at ${flags.server}, ${model.replicas.length} replica${model.replicas.length === 1 ? '' : 's'}`,
    );
    const results = await measure(flags, interrupt.signal);
    const { mix, ...settings } = flags;
    if (flags.json !== undefined) {
      const page = { model: model.name, settings: { ...settings, mix: Object.fromEntries(mix) }, results };
      writeFileSync(flags.json, `${JSON.stringify(page, null, 2)}\n`);
    }
    if (flags.plot !== undefined)
      writeFileSync(flags.plot, plot(results, `${model.name} at ${flags.server}`));
    if (interrupt.signal.aborted) process.exitCode = EXIT.interrupted;
    else if (results.every(({ answered }) => answered === 0)) process.exitCode = EXIT.failed;
  } finally {
    interrupt.dispose();
  }
});

try {
  await program.parseAsync();
} catch (error) {
  process.exitCode = report(error);
}

function report(error: unknown): number {
  // commander has told people already.
  if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.ok : EXIT.usage;
  const cliError = asCliError(error);
  process.stderr.write(formatError('bench:load', cliError).replace(/^internvl /, ''));
  return cliError.exitCode;
}
