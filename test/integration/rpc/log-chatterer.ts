// A process for log.test.ts: logs a line for every message, and says so once the line has been written or refused.
import { createLogger } from '../../../rpc/log.ts';

const logger = createLogger({ level: 'info', format: 'json' });

function log(): void {
  logger.info('line');
  process.stdout.write('', () => setImmediate(() => process.send?.('logged')));
}

process.on('message', log);
log();
