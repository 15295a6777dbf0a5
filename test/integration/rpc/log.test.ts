import { fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';

const CHATTERER = fileURLToPath(new URL('log-chatterer.ts', import.meta.url));

it('goes on when whoever read the log has gone', async () => {
  const child = fork(CHATTERER, { stdio: ['ignore', 'pipe', 'inherit', 'ipc'] });
  try {
    await once(child, 'message'); // it has logged once
    child.stdout?.destroy();
    for (let round = 0; round < 5; round++) {
      child.send('log');
      const outcome = await Promise.race([
        once(child, 'message').then(([message]) => message as string),
        once(child, 'exit').then(([code]) => `exited with ${String(code)}`),
      ]);
      expect(outcome).toBe('logged');
    }
  } finally {
    child.kill('SIGKILL');
  }
});
