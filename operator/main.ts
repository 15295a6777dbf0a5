// The operator process. Exit codes: 0 after SIGTERM or SIGINT, 2 bad flags, 3 leadership lost, 4 port in use, 1 anything else.
import v8 from 'node:v8';
import { describeError, createLogger } from '../rpc/log.ts';
import { PortInUse } from '../rpc/bind-error.ts';
import { ConfigError, parseConfig, USAGE, type OperatorConfig } from './config.ts';
import { runOperator } from './operator.ts';

function readConfig(): OperatorConfig {
  try {
    return parseConfig(process.argv.slice(2), process.env);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    process.stderr.write(`${error.message}\n${USAGE}`);
    return process.exit(2);
  }
}

// An answer or an event is garbage once its object is kept; V8 would let the heap double before it looks. Costs no measurable processor time.
v8.setFlagsFromString('--heap-growing-percent=20');

const config = readConfig();
const logger = createLogger({ level: config.logLevel, format: config.logFormat });
const stopping = new AbortController();
for (const signal of ['SIGTERM', 'SIGINT'] as const) {
  process.on(signal, () => {
    // A second signal does not wait for anyone.
    if (stopping.signal.aborted) process.exit(1);
    logger.info('stopping', { signal });
    stopping.abort();
  });
}

try {
  const outcome = await runOperator(config, logger, stopping.signal);
  logger.info('stopped', { outcome });
  // Nothing may be left that could still write: a lost leader goes at once and starts anew.
  process.exit(outcome === 'lost' ? 3 : 0);
} catch (error) {
  logger.error('fatal', { err: describeError(error) });
  process.exit(error instanceof PortInUse ? 4 : 1);
}
