import { CliError } from './cli-error.ts';
import { EXIT } from './exit-codes.ts';

/** Codes of errors of other modules that tell of the user's input, not of a failure. */
const INPUT_ERRORS: ReadonlySet<unknown> = new Set([
  'invalid_manifest',
  'invalid_config',
  'bad_address',
  'unsupported_source',
]);

/** Any error as what the command ends with. */
export function asCliError(error: unknown): CliError {
  if (error instanceof CliError) return error;
  if (!(error instanceof Error))
    return new CliError(String(error), { exitCode: EXIT.failed, code: 'FAILED' });
  const code: unknown = 'code' in error ? error.code : undefined;
  if (code === 'port_in_use')
    return new CliError(error.message, { exitCode: EXIT.portInUse, code: 'PORT_IN_USE', cause: error });
  const exitCode = INPUT_ERRORS.has(code) ? EXIT.usage : EXIT.failed;
  const name = typeof code === 'string' ? code.toUpperCase() : 'FAILED';
  return new CliError(error.message, { exitCode, code: name, cause: error });
}

/** The message for people: `internvl COMMAND: what`, and what to do. */
export function formatError(command: string, error: CliError): string {
  const reason = error.reason === '' ? error.code : `${error.code}, ${error.reason}`;
  const label = ['USAGE', 'FAILED', 'INVALID_MANIFEST'].includes(error.code) ? '' : ` [${reason}]`;
  const hint = error.hint === undefined ? '' : `\n  ${error.hint}`;
  return `internvl ${command}: ${error.message}${label}${hint}\n`;
}

/** The message for scripts. */
export function errorJson({ code, reason, message }: CliError): string {
  return `${JSON.stringify({ error: { code, reason, message } })}\n`;
}
