// Which cores a process under measurement runs on, so that what is measured does not wait for the others.
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';

/** The numbers in a list as the kernel writes it: `0-2,5`. */
export function coresOf(list: string): number[] {
  return list
    .trim()
    .split(',')
    .flatMap((range) => {
      const [first = NaN, last = first] = range.split('-').map(Number);
      return Array.from({ length: last - first + 1 }, (_, index) => first + index);
    });
}

/** The cores that this process may use; none where the system does not say. */
export function allowedCores(): number[] {
  try {
    const list = /^Cpus_allowed_list:\s*(\S+)$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1];
    return list === undefined ? [] : coresOf(list);
  } catch {
    return [];
  }
}

/** Keeps all threads of a process on these cores; what it starts afterwards stays there too. False where that cannot be had. */
export function keepOn(pid: number, cores: readonly number[]): boolean {
  if (cores.length === 0) return false;
  try {
    execFileSync('taskset', ['-acp', cores.join(','), String(pid)], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}
