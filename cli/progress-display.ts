// How far a local deployment is: one live line a replica on a terminal, a line for each step of the way when piped.
import { percentLoaded } from '../local/progress.ts';
import type { ReplicaProgress } from '../local/deployment.ts';
import { isTerminal, styler } from './terminal.ts';

export interface ProgressDisplay {
  update(replicas: readonly ReplicaProgress[]): void;
  /** A line of its own. */
  note(text: string): void;
  /** Leaves what is shown as it is. */
  done(): void;
}

/** Where a replica is, in words. */
export function describeReplica({ ranks, ready, down }: ReplicaProgress): string {
  if (ready) return 'ready';
  if (down) return 'down';
  const percent = percentLoaded(ranks);
  if (percent === 100)
    return ranks.every(({ phase }) => phase === 'serving') ? 'waiting for its first answer' : 'warming up';
  return ranks.every(({ phase }) => phase === 'starting') ? 'starting' : `loading ${percent} %`;
}

export function progressDisplay(stream: NodeJS.WriteStream): ProgressDisplay {
  return isTerminal(stream) ? liveDisplay(stream) : lineDisplay((line) => stream.write(`${line}\n`));
}

/** Shows no progress, only what has to be known. */
export function quietDisplay(stream: NodeJS.WriteStream): ProgressDisplay {
  return { update: () => {}, note: (text) => stream.write(`${text}\n`), done: () => {} };
}

/** One line for each step of a replica; loading in steps of a quarter. */
export function lineDisplay(print: (line: string) => void): ProgressDisplay {
  const shown = new Map<string, string>();
  return {
    update(replicas) {
      for (const replica of replicas) {
        const text = describeReplica(replica);
        const step = text.replace(/[0-9]+/, (percent) => String(Number(percent) - (Number(percent) % 25)));
        if (shown.get(replica.name) === step) continue;
        shown.set(replica.name, step);
        print(`${replica.name}: ${step}`);
      }
    },
    note: print,
    done: () => {},
  };
}

const REDRAW_MS = 80;

function liveDisplay(stream: NodeJS.WriteStream): ProgressDisplay {
  const style = styler(stream);
  let height = 0;
  let latest: readonly ReplicaProgress[] = [];
  let timer: NodeJS.Timeout | undefined;
  const erase = () => {
    if (height > 0) stream.write(`\u001b[${height}A\u001b[J`);
    height = 0;
  };
  const draw = () => {
    timer = undefined;
    erase();
    // A line that wraps would be counted wrong when it is erased.
    const width = (stream.columns || 80) - 1;
    for (const replica of latest) {
      const line =
        `${replica.name}  ${bar(replica)}  ${replica.ranks.length} rank(s)  ${describeReplica(replica)}`.slice(
          0,
          width,
        );
      stream.write(`${style(replica.ready ? 'green' : replica.down ? 'red' : 'yellow', line)}\n`);
    }
    height = latest.length;
  };
  return {
    update(replicas) {
      latest = replicas;
      timer ??= setTimeout(draw, REDRAW_MS);
    },
    note(text) {
      erase();
      stream.write(`${text}\n`);
      draw();
    },
    done() {
      clearTimeout(timer);
      draw();
      height = 0;
      latest = [];
    },
  };
}

function bar({ ranks, ready }: ReplicaProgress): string {
  const filled = ready ? 20 : Math.floor(percentLoaded(ranks) / 5);
  return `[${'#'.repeat(filled)}${'.'.repeat(20 - filled)}]`;
}
