import { spawn, type ChildProcess } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { LineSplitter } from './lines.ts';
import type { LocalProcess } from './localise.ts';
import type { Exit } from '../operator/restart-policy.ts';
import { RotatingFile } from './rotating-file.ts';

const PACKAGE = new URL('../', import.meta.url);
const GUARD = new URL('child-guard.ts', import.meta.url).href;
const TAIL_LINES = 12;

/** One running program of a group: its output goes to a log file and, line by line, to `onLine`. */
export class RunningProcess {
  readonly spec: LocalProcess;
  readonly logFile: string;
  /** Resolves once, when the process has ended and its output has been read. */
  readonly exited: Promise<Exit>;
  readonly #child: ChildProcess;
  readonly #tail: string[] = [];

  constructor(spec: LocalProcess, logFile: string, onLine: (line: string) => void) {
    this.spec = spec;
    this.logFile = logFile;
    const log = new RotatingFile(logFile);
    // In a process group of its own: Ctrl-C reaches the parent alone, which then drains its children in order.
    this.#child = spawn(
      process.execPath,
      [
        '--disable-warning=ExperimentalWarning',
        '--import',
        GUARD,
        fileURLToPath(new URL(spec.program, PACKAGE)),
        ...spec.args,
      ],
      { env: { ...process.env, ...spec.env }, stdio: ['pipe', 'pipe', 'pipe'], detached: true },
    );
    const take = (line: string) => {
      this.#tail.push(line);
      if (this.#tail.length > TAIL_LINES) this.#tail.shift();
      onLine(line);
    };
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      const splitter = new LineSplitter(take);
      stream?.on('data', (chunk: Buffer) => {
        log.write(chunk);
        splitter.push(chunk);
      });
      stream?.on('end', () => splitter.end());
    }
    this.#child.stdin?.on('error', () => {}); // the child's end of the guard pipe; its exit is reported below
    this.exited = new Promise((resolve) => {
      this.#child.once('error', (error) => {
        take(`cannot start: ${error.message}`);
        log.close();
        resolve({ process: spec.name, code: 1, signal: null });
      });
      this.#child.once('close', (code, signal) => {
        log.close();
        resolve({ process: spec.name, code, signal });
      });
    });
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }

  /** The last lines of its output, oldest first. */
  get tail(): readonly string[] {
    return this.#tail;
  }

  signal(signal: NodeJS.Signals): void {
    if (this.#child.exitCode === null && this.#child.signalCode === null) this.#child.kill(signal);
  }
}
