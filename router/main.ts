// The router process. Exit codes: 0 after a drain, 2 bad flags, 4 port in use, 1 anything else.

import { setFlagsFromString } from 'node:v8';
import { describeError, createLogger } from '../rpc/log.ts';
import { PortInUse } from '../rpc/bind-error.ts';
import { ConfigError, parseConfig, USAGE, type RouterConfig } from './config.ts';

function readConfig(): RouterConfig {
  try {
    return parseConfig(process.argv.slice(2));
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    process.stderr.write(`${error.message}\n${USAGE}`);
    return process.exit(2);
  }
}

const config = readConfig();
const logger = createLogger({ level: config.logLevel, format: config.logFormat });

// Loading makes much garbage and keeps little: a young generation that grows meanwhile would stay resident for good (about 25 MiB with a
// vocabulary of 64,000). Under load it may grow, and then at once to its full size: each small collection costs as much as a large one.
setFlagsFromString('--semi-space-growth-factor=1');
const onServing = (): void => setFlagsFromString('--semi-space-growth-factor=16');

try {
  const { Router } = await import('./router.ts');
  // Its client library is only loaded where it is needed.
  const cluster = config.discovery && new (await import('./cluster.ts')).Cluster(config.discovery, logger);
  const router = new Router(config, { logger, onServing, ...(cluster && { cluster }) });
  const address = await router.start();
  logger.info('listening', {
    address,
    ...(router.metricsAddress === undefined ? {} : { metrics: router.metricsAddress }),
  });
  let stopping = false;
  const stop = (signal: string): void => {
    // A second signal does not wait for anyone.
    if (stopping) process.exit(1);
    stopping = true;
    logger.info('draining', { signal, requests: router.live });
    // The exit code is set, not forced: standard output may be a pipe, and what is in it must get out.
    router.stop().then(() => logger.info('stopped'), fatal);
  };
  process.on('SIGTERM', stop);
  process.on('SIGINT', stop);
} catch (error) {
  fatal(error);
}

function fatal(error: unknown): void {
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  logger.error('fatal', { code, err: describeError(error) });
  process.exitCode = error instanceof PortInUse ? 4 : 1;
}
