// One rank of a group under measurement: a process that tensor-parallel.ts forks and tells what to do.
import type { WeightDType } from '../runtime/model/tensor-plan.ts';
import { native, type Native } from '../runtime/native/index.ts';
import { ModelUnderTest } from './model-under-test.ts';
import { SMALL_MODEL } from './shapes.ts';

export type RankCommand =
  | {
      readonly op: 'load';
      readonly rank: number;
      readonly worldSize: number;
      readonly threads: number;
      readonly dtype: WeightDType;
    }
  | { readonly op: 'connect'; readonly addresses: readonly Uint8Array[] }
  | {
      readonly op: 'decode';
      readonly sequences: number;
      readonly context: number;
      readonly times: number;
    }
  /** The collectives of a decode step without what lies between them. */
  | { readonly op: 'collectives'; readonly times: number };

export interface RankReply {
  /** After 'load': what each peer needs to find this rank. */
  readonly addresses?: readonly Uint8Array[];
  /** Of each pass. */
  readonly seconds?: readonly number[];
}

const TIMEOUT_MS = 60_000;

/** Calls the collectives of one pass again, on tensors of the same sizes. */
class CollectivesOfAPass {
  #calls: (() => void)[] = [];

  /** The operations as the model is to call them. */
  watched(ops: Native): Native {
    return {
      ...ops,
      allReduce: (x) => {
        const same = ops.allocate(ops.dtype(x), ops.shape(x));
        this.#calls.push(() => ops.allReduce(same));
        ops.allReduce(x);
      },
      allGatherColumns: (x) => {
        const same = ops.allocate(ops.dtype(x), ops.shape(x));
        this.#calls.push(() => {
          const mark = ops.mark();
          ops.allGatherColumns(same);
          ops.release(mark);
        });
        return ops.allGatherColumns(x);
      },
      broadcast: (bytes, root) => {
        const same = bytes.slice();
        this.#calls.push(() => ops.broadcast(same, root));
        ops.broadcast(bytes, root);
      },
    };
  }

  /** Forgets what was called so far. */
  begin(): void {
    this.#calls = [];
  }

  run(): void {
    for (const call of this.#calls) call();
  }
}

const ops = native();
const collectives = new CollectivesOfAPass();
let model: ModelUnderTest | undefined;

function timed(times: number, pass: () => void): number[] {
  pass();
  return Array.from({ length: times }, () => {
    const begin = performance.now();
    pass();
    return (performance.now() - begin) / 1000;
  });
}

function run(command: RankCommand): RankReply {
  if (command.op === 'load') {
    const { rank, worldSize, threads, dtype } = command;
    model = new ModelUnderTest(SMALL_MODEL, {
      dtype,
      quantization: 'none',
      threads,
      place: { rank, worldSize },
      ops: collectives.watched(ops),
    });
    return { addresses: ops.createCollective(rank, worldSize, '127.0.0.1', TIMEOUT_MS) };
  }
  if (command.op === 'connect') {
    ops.connectCollective(command.addresses);
    return {};
  }
  if (command.op === 'collectives') return { seconds: timed(command.times, () => collectives.run()) };
  const step = model?.decode(command.sequences, command.context);
  if (step === undefined) throw new Error('nothing is loaded');
  // The last pass is the one whose collectives are kept.
  const seconds = timed(command.times, () => {
    collectives.begin();
    step();
  });
  return { seconds };
}

process.on('message', (command: RankCommand) => process.send?.(run(command)));
