import { ask, Cancelled } from './answer.ts';
import { CliError, usageError } from './cli-error.ts';
import { connect, DEFAULT_SERVER } from './client.ts';
import { parseTurns, toMessages, toRequest, toSampling } from './conversation.ts';
import { EXIT } from './exit-codes.ts';
import { turnsOf, type GenerateFlags } from './generate.ts';
import { interruptSignal } from './interrupt.ts';
import { readInputFile, readTextFile } from './read-input.ts';
import { isTerminal, printable } from './terminal.ts';

/** Whether the user was pointed at the logs, which then must stay. */
function namesLogs(error: unknown, logs: string): boolean {
  return error instanceof CliError && error.hint?.includes(logs) === true;
}

/** Runs `internvl generate`; throws CliError and what the local runner throws. */
export async function runGenerate(flags: GenerateFlags): Promise<void> {
  if (flags.server !== undefined && flags.model !== undefined)
    throw usageError('give --server or --model, not both');
  const fileTurns =
    flags.messages === undefined
      ? []
      : parseTurns(await readTextFile(flags.messages, '--messages'), flags.messages);
  const turns = turnsOf(flags, fileTurns);
  const pictures: Uint8Array[] = [];
  for (const path of flags.image ?? []) pictures.push(await readInputFile(path, '--image'));
  const request = toRequest(toMessages(turns, pictures), toSampling(flags), {
    logprobs: flags.logprobs,
    promptTokenIds: flags.json === true,
  });

  const interrupt = interruptSignal(() => process.exit(EXIT.interrupted));
  try {
    if (flags.model === undefined) {
      await answer(flags.server ?? DEFAULT_SERVER);
      return;
    }
    const [{ deploymentOf, failureOf, runLocal, untilReady }, { progressDisplay, quietDisplay }] =
      await Promise.all([import('./run-local.ts'), import('./progress-display.ts')]);
    const deployment = await deploymentOf(flags.model, flags);
    const display = isTerminal(process.stderr)
      ? progressDisplay(process.stderr)
      : quietDisplay(process.stderr);
    const local = await runLocal(deployment, { host: '127.0.0.1', grpcPort: 0, display });
    let failed = false;
    try {
      await untilReady(local, interrupt.signal);
      display.done();
      if (interrupt.signal.aborted) throw new Cancelled('');
      // A replica that dies under the request ends the call with UNAVAILABLE; one that cannot come back ends it here.
      await Promise.race([answer(local.address), failureOf(local)]);
    } catch (error) {
      failed = namesLogs(error, local.logs);
      throw error;
    } finally {
      await local.stop({ keepLogs: failed });
    }
  } finally {
    interrupt.dispose();
  }

  async function answer(server: string): Promise<void> {
    const client = await connect(server);
    const json = flags.json === true;
    const onTerminal = isTerminal(process.stdout);
    try {
      const result = await ask(client, request, {
        signal: interrupt.signal,
        deadlineMs: flags.timeout === undefined ? undefined : flags.timeout * 1000,
        onText: (text) => {
          if (!json) process.stdout.write(onTerminal ? printable(text) : text);
        },
      });
      process.stdout.write(json ? `${JSON.stringify(result)}\n` : '\n');
    } finally {
      client.close();
    }
  }
}
