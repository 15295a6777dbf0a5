import { EXIT } from './exit-codes.ts';

export interface CliErrorOptions {
  readonly exitCode: number;
  /** Short and stable, for scripts: a gRPC status name or a word such as USAGE. */
  readonly code: string;
  /** ErrorInfo's reason, where the server gave one. */
  readonly reason?: string;
  /** What to do, as one line. */
  readonly hint?: string;
  readonly cause?: unknown;
}

/** Ends a command with one clear message. */
export class CliError extends Error {
  override readonly name = 'CliError';
  readonly exitCode: number;
  readonly code: string;
  readonly reason: string;
  readonly hint: string | undefined;

  constructor(message: string, options: CliErrorOptions) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.exitCode = options.exitCode;
    this.code = options.code;
    this.reason = options.reason ?? '';
    this.hint = options.hint;
  }
}

/** The command was called wrongly, or with input that cannot be used. */
export function usageError(message: string, hint?: string): CliError {
  return new CliError(message, { exitCode: EXIT.usage, code: 'USAGE', ...(hint !== undefined && { hint }) });
}
