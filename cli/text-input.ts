import { usageError } from './cli-error.ts';
import { readStdin } from './read-input.ts';

/** The value of a flag or, with --stdin, all of standard input: exactly one of them. */
export async function textInput(
  value: string | undefined,
  stdin: boolean | undefined,
  flag: string,
): Promise<string> {
  if (value !== undefined && stdin === true) throw usageError(`give ${flag} or --stdin, not both`);
  if (value !== undefined) return value;
  if (stdin === true) return await readStdin();
  throw usageError(`nothing to work on: give ${flag} or --stdin`);
}
