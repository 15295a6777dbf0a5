import { Command, Option } from 'commander';
import { usageError } from './cli-error.ts';
import type { SamplingFlags, Turn } from './conversation.ts';
import { collect, parseCount, parseNumber, parseSeed, parseTensorParallelSize } from './option-parsers.ts';

export interface GenerateFlags extends SamplingFlags {
  prompt?: string;
  messages?: string;
  system?: string;
  image?: string[];
  logprobs?: number;
  timeout?: number;
  server?: string;
  model?: string;
  tensorParallelSize: 1 | 2 | 4 | 8;
  dtype: 'float32' | 'bfloat16';
  quantization: 'none' | 'int8' | 'fp8';
  kvCacheDtype: 'auto' | 'fp8';
  json?: true;
}

export function generateCommand(): Command {
  const command = new Command('generate')
    .description('Answers one prompt, and streams the answer.')
    .option('--prompt <text>', 'the question')
    .option(
      '--messages <file>',
      'a conversation instead: JSON [{"role": "system"|"user"|"assistant", "content": "..."}]',
    )
    .option('--system <text>', 'system message')
    .option('--image <file>', 'a picture; may be repeated', collect(String));
  return addSamplingFlags(command)
    .option('--logprobs <k>', 'log-probabilities of each token and of the k most likely ones', parseCount)
    .option('--timeout <seconds>', 'give up after this long', parseNumber)
    .option('--server <host:port>', 'the server to ask (default 127.0.0.1:50051)')
    .option('--model <dir>', 'instead of a server: run this checkpoint for this one prompt')
    .option('--tensor-parallel-size <n>', 'with --model: ranks, 1, 2, 4 or 8', parseTensorParallelSize, 1)
    .addOption(
      new Option('--dtype <type>', 'with --model').choices(['float32', 'bfloat16']).default('bfloat16'),
    )
    .addOption(
      new Option('--quantization <type>', 'with --model').choices(['none', 'int8', 'fp8']).default('none'),
    )
    .addOption(new Option('--kv-cache-dtype <type>', 'with --model').choices(['auto', 'fp8']).default('auto'))
    .option('--json', 'print one JSON object when the answer is complete')
    .addHelpText(
      'after',
      `
Examples:
  internvl generate --image examples/pictures/shapes.png --prompt 'What colour is the circle?'
  internvl generate --model examples/demo-model --tensor-parallel-size 2 --prompt 'Hello' --max-tokens 16 --json`,
    )
    .action(async (flags: GenerateFlags) => {
      const { runGenerate } = await import('./run-generate.ts');
      await runGenerate(flags);
    });
}

/** The flags that choose how tokens are sampled. */
export function addSamplingFlags(command: Command): Command {
  return command
    .option('--max-tokens <n>', 'at most this many tokens', parseCount)
    .option('--min-tokens <n>', 'at least this many tokens', parseCount)
    .option('--temperature <x>', '0 = always the most likely token', parseNumber)
    .option('--top-p <p>', 'sample from the most likely tokens that sum to this probability', parseNumber)
    .option('--top-k <k>', 'sample from the k most likely tokens; 0 = all', parseCount)
    .option('--repetition-penalty <x>', 'above 1 makes what was said less likely', parseNumber)
    .option('--seed <n>', 'the same seed gives the same answer', parseSeed)
    .option('--stop <text>', 'end before this text; may be repeated', collect(String))
    .option('--stop-token-id <id>', 'end at this token; may be repeated', collect(parseCount))
    .option('--ignore-eos', 'go on past the end of the answer, up to --max-tokens');
}

/** The conversation that the flags ask for; `fileTurns` is what --messages holds. */
export function turnsOf(
  flags: Pick<GenerateFlags, 'prompt' | 'messages' | 'system'>,
  fileTurns: readonly Turn[],
): Turn[] {
  const { prompt, messages, system } = flags;
  if (prompt === undefined && messages === undefined)
    throw usageError('nothing to answer: give --prompt or --messages');
  if (prompt !== undefined && messages !== undefined)
    throw usageError('give --prompt or --messages, not both');
  if (system !== undefined && fileTurns.some(({ role }) => role === 'system'))
    throw usageError('--messages holds a system message already; leave --system out');
  const systemTurns: Turn[] = system === undefined ? [] : [{ role: 'system', content: system }];
  const userTurns: Turn[] = prompt === undefined ? [] : [{ role: 'user', content: prompt }];
  return [...systemTurns, ...fileTurns, ...userTurns];
}
