// One rank of a replica. Flags: config.ts; exit codes: exit.ts.

import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { createLogger } from '../rpc/log.ts';
import { environmentFlags, parseConfig } from './config.ts';
import type { Config } from './config.ts';
import { exitCodeOf } from './exit.ts';
import { runFollower } from './follower.ts';
import { runLeader } from './leader.ts';
import { setThreadWaitPolicy } from './native/load.ts';
import { RankProcess } from './rank-process.ts';

function readConfig(): Config | undefined {
  try {
    const argv = [...environmentFlags(process.env), ...process.argv.slice(2)];
    return parseConfig(argv, { cores: availableParallelism() });
  } catch (err) {
    const error = err as Error;
    createLogger({ level: 'error', format: 'json' }).error('fatal', { code: exitCodeOf(error), err: error });
    process.exitCode = exitCodeOf(error);
    return undefined;
  }
}

/** NCCL tells which path it takes in its log alone. It reads the process's environment, which is the main thread's. */
function logNccl(): void {
  process.env['NCCL_DEBUG'] ??= 'INFO';
  process.env['NCCL_DEBUG_SUBSYS'] ??= 'INIT,P2P,SHM,NET';
  process.env['NCCL_DEBUG_FILE'] ??= join(tmpdir(), `internvl-nccl-${process.pid}.log`);
}

function run(config: Config): void {
  const fields = { rank: config.rank };
  const logger = createLogger({ level: config.logLevel, format: config.logFormat, fields });
  const self = new RankProcess(config, logger);
  const fatal = (err: unknown): void => self.fatal(err instanceof Error ? err : new Error(String(err)));
  process.on('uncaughtException', fatal);
  process.on('unhandledRejection', fatal);
  // Threads started from here on keep small heaps for short-lived objects: memory belongs to weights and KV cache.
  setFlagsFromString('--max-semi-space-size=2');
  if (config.device.kind === 'cuda') logNccl();
  setThreadWaitPolicy(); // before the engine thread exists: it copies the environment
  (config.rank === 0 ? runLeader(self) : runFollower(self)).catch(fatal);
}

const config = readConfig();
if (config) run(config);
