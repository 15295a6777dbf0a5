// What the machine is, for the head of a report.
import { execFileSync } from 'node:child_process';
import { cpus, totalmem } from 'node:os';

export interface Machine {
  readonly cpu: string;
  readonly cores: number;
  readonly memoryGiB: number;
  readonly node: string;
  /** A line for each card, or why there is none. */
  readonly cards: readonly string[];
  /** Versions of NVIDIA's Python packages that may have the libraries. */
  readonly packages: readonly string[];
}

function linesOf(program: string, args: readonly string[]): string[] {
  try {
    const text = execFileSync(program, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
    return text.split('\n').filter((line) => line.trim() !== '');
  } catch (error) {
    const missing = (error as NodeJS.ErrnoException).code === 'ENOENT';
    return [missing ? `${program} is not installed` : `${program} failed`];
  }
}

const PACKAGES = `
from importlib.metadata import distributions
for one in sorted({(d.metadata['Name'], d.version) for d in distributions()}):
    if one[0] and (one[0].startswith('nvidia-') or one[0] == 'torch'): print(*one)
`;

export function describeMachine(): Machine {
  const processors = cpus();
  return {
    cpu: processors[0]?.model ?? 'unknown',
    cores: processors.length,
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    node: process.version,
    cards: linesOf('nvidia-smi', [
      '--query-gpu=name,driver_version,memory.total,clocks.max.sm,power.limit',
      '--format=csv,noheader',
    ]),
    packages: linesOf('python3', ['-c', PACKAGES]),
  };
}
