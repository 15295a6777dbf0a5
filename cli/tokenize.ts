import { Command } from 'commander';
import { textInput } from './text-input.ts';

interface TokenizeFlags {
  model: string;
  text?: string;
  stdin?: true;
  parseControl?: true;
  json?: true;
}

export function tokenizeCommand(): Command {
  return new Command('tokenize')
    .description("Prints the token ids of a text, by a checkpoint's tokenizer.")
    .requiredOption('--model <dir>', 'checkpoint directory')
    .option('--text <text>', 'the text')
    .option('--stdin', 'read the text from standard input, as it is')
    .option(
      '--parse-control',
      'control strings become control tokens, as in the published tokenizer; without it they stay text',
    )
    .option('--json', 'print {"tokenIds": [...]}')
    .addHelpText(
      'after',
      `
Examples:
  internvl tokenize --model examples/demo-model --text 'What colour is it?'
  internvl tokenize --model examples/demo-model --stdin --json < question.txt`,
    )
    .action(async (flags: TokenizeFlags) => {
      const text = await textInput(flags.text, flags.stdin, '--text');
      const { openTokenizer } = await import('./open-tokenizer.ts');
      const tokenizer = await openTokenizer(flags.model);
      const tokenIds =
        flags.parseControl === true ? tokenizer.encodeWithControlTokens(text) : tokenizer.encode(text);
      process.stdout.write(
        flags.json === true ? `${JSON.stringify({ tokenIds })}\n` : `${tokenIds.join(' ')}\n`,
      );
    });
}
