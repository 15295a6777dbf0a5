import { createLogger as createWinstonLogger, format, transports } from 'winston';
import type { Logger } from 'winston';

export type { Logger } from 'winston';

export const LOG_LEVELS = ['error', 'warn', 'info', 'debug'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

export const LOG_FORMATS = ['json', 'text'] as const;
export type LogFormat = (typeof LOG_FORMATS)[number];

export interface LogOptions {
  readonly level: LogLevel;
  /** json: one object a line, for pods; text: for a terminal. */
  readonly format: LogFormat;
  /** Fields of every line, such as the rank. */
  readonly fields?: Readonly<Record<string, unknown>>;
}

/** A logger to stdout: the message is a constant, data stands in fields, an error under `err`. */
export function createLogger(options: LogOptions): Logger {
  if (!process.stdout.listeners('error').includes(ignoreClosedPipe))
    process.stdout.on('error', ignoreClosedPipe);
  return createWinstonLogger({
    level: options.level,
    defaultMeta: { ...options.fields },
    format: format.combine(
      errorFields(),
      format.timestamp(),
      options.format === 'json' ? format.json() : text(),
    ),
    transports: [new transports.Console()],
  });
}

/** Whoever read the log has gone: a server goes on without. */
function ignoreClosedPipe(err: Error): void {
  if (!('code' in err) || err.code !== 'EPIPE') throw err;
}

// winston drops an Error's message when it stands in a field.
const errorFields = format((info) => {
  if (info['err'] instanceof Error) info['err'] = describeError(info['err']);
  return info;
});

function text() {
  return format.printf((info) => {
    const { timestamp, level, message, ...fields } = info;
    const data = Object.entries(fields)
      .map(([key, value]) => `${key}=${typeof value === 'string' ? value : JSON.stringify(value)}`)
      .join(' ');
    return `${String(timestamp)} ${level} ${String(message)}${data === '' ? '' : ` ${data}`}`;
  });
}

/** An error as fields of a log line: name, code, message, stack, and the chain of causes. */
export function describeError(err: unknown): Record<string, unknown> {
  if (!(err instanceof Error)) return { message: String(err) };
  return {
    name: err.name,
    ...('code' in err ? { code: err.code } : {}),
    message: err.message,
    stack: err.stack,
    ...(err.cause === undefined ? {} : { cause: describeError(err.cause) }),
  };
}
