// The command line. Each command's file declares its flags and loads what it needs only when it is run: people start it often.
import { Command, CommanderError } from 'commander';
import { usageError } from './cli-error.ts';
import { asCliError, errorJson, formatError } from './report-error.ts';
import { EXIT, EXIT_HELP } from './exit-codes.ts';
import { chatCommand } from './chat.ts';
import { detokenizeCommand } from './detokenize.ts';
import { generateCommand } from './generate.ts';
import { inspectCommand } from './inspect.ts';
import { preflightCommand } from './preflight.ts';
import { preprocessCommand } from './preprocess.ts';
import { tokenizeCommand } from './tokenize.ts';
import { upCommand } from './up.ts';
import { version } from './version.ts';

const program = new Command('internvl')
  .description('Runs and asks InternVL-Chat models.')
  .version(version())
  .addHelpText('after', EXIT_HELP)
  .showHelpAfterError('(add --help for the flags and examples)')
  .exitOverride();

for (const command of [
  upCommand(),
  chatCommand(),
  generateCommand(),
  tokenizeCommand(),
  detokenizeCommand(),
  preprocessCommand(),
  inspectCommand(),
  preflightCommand(),
]) {
  program.addCommand(command.addHelpText('after', EXIT_HELP).copyInheritedSettings(program));
}

// A reader that closes early (`| head`), or a terminal that is gone, wants no more; that is no failure.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE' && error.code !== 'EIO') throw error;
  process.exit(EXIT.ok);
});

try {
  await program.parseAsync();
} catch (error) {
  process.exitCode = report(error);
}

function report(error: unknown): number {
  const json = process.argv.includes('--json');
  if (error instanceof CommanderError) {
    // commander has told people already.
    if (error.exitCode === 0) return EXIT.ok;
    if (json) process.stdout.write(errorJson(usageError(error.message.replace(/^error: /, ''))));
    return EXIT.usage;
  }
  const cliError = asCliError(error);
  if (json) process.stdout.write(errorJson(cliError));
  else process.stderr.write(formatError(commandName(), cliError));
  if (process.env['INTERNVL_DEBUG'] !== undefined) console.error(error);
  return cliError.exitCode;
}

function commandName(): string {
  return program.commands.find((command) => process.argv[2] === command.name())?.name() ?? '';
}
