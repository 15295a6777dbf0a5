import { Command, InvalidArgumentError } from 'commander';
import { usageError } from './cli-error.ts';
import { parseTokenIds } from './option-parsers.ts';
import { textInput } from './text-input.ts';

interface DetokenizeFlags {
  model: string;
  ids?: string;
  stdin?: true;
  skipSpecialTokens?: true;
  json?: true;
}

export function detokenizeCommand(): Command {
  return new Command('detokenize')
    .description("Prints the text of token ids, by a checkpoint's tokenizer.")
    .requiredOption('--model <dir>', 'checkpoint directory')
    .option('--ids <ids>', 'token ids between commas')
    .option('--stdin', 'read the ids from standard input, between commas or white space')
    .option('--skip-special-tokens', 'leave control tokens out')
    .option('--json', 'print {"text": "..."}')
    .addHelpText(
      'after',
      `
Examples:
  internvl detokenize --model examples/demo-model --ids 12,7,99
  internvl tokenize --model examples/demo-model --text hello | internvl detokenize --model examples/demo-model --stdin`,
    )
    .action(async (flags: DetokenizeFlags) => {
      const given = await textInput(flags.ids, flags.stdin, '--ids');
      const ids = parse(given);
      const { openTokenizer } = await import('./open-tokenizer.ts');
      const tokenizer = await openTokenizer(flags.model);
      const text = decode(() =>
        tokenizer.decode(ids, { skipSpecialTokens: flags.skipSpecialTokens === true }),
      );
      process.stdout.write(flags.json === true ? `${JSON.stringify({ text })}\n` : `${text}\n`);
    });
}

function parse(text: string): number[] {
  try {
    return parseTokenIds(text);
  } catch (error) {
    if (error instanceof InvalidArgumentError)
      throw usageError('the token ids must be whole numbers of 0 or more, between commas or white space');
    throw error;
  }
}

function decode(run: () => string): string {
  try {
    return run();
  } catch (error) {
    if (error instanceof RangeError) throw usageError(error.message);
    throw error;
  }
}
