// Stands for a rank in tests of the supervisor. Its flags say what it does: --say TEXT prints a line; --exit CODE ends at once, or after
// --after-file FILE is there; without --exit it runs until it is told to end. --deaf ignores SIGTERM. --metrics-listen
// HOST:PORT answers /healthz, and says so.
import { existsSync } from 'node:fs';
import { createServer } from 'node:http';
import { parseArgs } from 'node:util';

const { values } = parseArgs({
  options: {
    say: { type: 'string', multiple: true },
    exit: { type: 'string' },
    'after-file': { type: 'string' },
    deaf: { type: 'boolean' },
    'metrics-listen': { type: 'string' },
  },
});

for (const line of values.say ?? []) console.log(line);
const file = values['after-file'];
if (values.exit !== undefined && (file === undefined || existsSync(file))) process.exit(Number(values.exit));
process.on('SIGTERM', () => {
  if (values.deaf !== true) process.exit(0);
});
const port = values['metrics-listen']?.split(':')[1];
if (port !== undefined) {
  const server = createServer((_, response) => response.end('ok', () => console.log('asked')));
  server.listen(Number(port), '127.0.0.1');
}
console.log(JSON.stringify({ message: 'serving', rank: 0, address: '127.0.0.1:1' }));
setInterval(() => {
  if (values.exit !== undefined && file !== undefined && existsSync(file)) process.exit(Number(values.exit));
}, 20);
