// How long the event loop of a process under measurement is held up.
import { once } from 'node:events';
import type { Server } from './processes.ts';

// Loaded into a router: tells at each SIGUSR2 how long its event loop was held up since the one before. What counts is the CPU time of the
// loop's thread from one millisecond's timer to the next, so that other processes on the machine do not.
export const LOOP_TURNS = `
  const turns = [];
  let before = 0;
  setInterval(() => {
    const { user, system } = process.threadCpuUsage();
    turns.push((user + system - before) / 1000);
    before = user + system;
  }, 1).unref();
  process.on('SIGUSR2', () => {
    turns.sort((a, b) => a - b);
    const p99 = turns[Math.floor(turns.length * 0.99)];
    console.log(JSON.stringify({ message: 'loop turns', p99, max: turns.at(-1) }));
    turns.length = 0;
  });
`;

/** The turns of the loop of a router with LOOP_TURNS since this was last asked, in milliseconds. */
export async function loopTurns({
  child,
  lines,
}: Server): Promise<{ readonly p99: number; readonly max: number }> {
  child.kill('SIGUSR2');
  for (;;) {
    const [line] = (await once(lines, 'line')) as [string];
    const { p99, max } = JSON.parse(line) as { readonly p99?: number; readonly max?: number };
    if (p99 !== undefined && max !== undefined) return { p99, max };
  }
}
