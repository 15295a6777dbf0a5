// Forward passes of a few of the 40B's layers beside PyTorch's, in turn on one device. Peers are what the machine has: none is brought.
import { fileURLToPath } from 'node:url';
import { EngineProcess, type Pass } from '../bench/peers/engine-process.ts';
import { median } from '../bench/peers/rows.ts';
import type { Row } from '../bench/results.ts';
import type { Shape } from '../bench/shapes.ts';

export interface PeersBenchOptions {
  readonly shape: Shape;
  /** What rows call it. */
  readonly name: string;
  readonly device: 'cpu' | 'cuda';
  /** A Python that has PyTorch. */
  readonly python: string;
  readonly batches: readonly number[];
  readonly context: number;
  readonly promptTokens: number;
  readonly say: (text: string) => void;
}

const ROUNDS = 3;
const TIMES = 20;
const OURS = 'ours';
const file = (name: string): string => fileURLToPath(new URL(`../bench/peers/${name}`, import.meta.url));

export async function benchPeers(options: PeersBenchOptions): Promise<Row[]> {
  const { shape, device, python, batches, context, promptTokens, say } = options;
  const ours = file(`engine-ours${import.meta.filename.slice(-3)}`);
  const engines = new Map([
    [OURS, new EngineProcess(OURS, [process.execPath, '--disable-warning=ExperimentalWarning', ours])],
  ]);
  for (const name of ['PyTorch', 'PyTorch compiled'])
    engines.set(name, new EngineProcess(name, [python, file('engine-pytorch.py')]));
  /** A peer that fails is out, and named. */
  const drop = async (name: string, error: unknown): Promise<void> => {
    if (name === OURS) throw error;
    say((error as Error).message);
    await engines.get(name)?.stop();
    engines.delete(name);
  };
  try {
    for (const [name, engine] of Array.from(engines))
      await engine
        .call({
          op: 'load',
          shape,
          dtype: 'bfloat16',
          quantization: 'none',
          threads: 1,
          device,
          compiled: name === 'PyTorch compiled',
          sequences: Math.max(...batches),
        })
        .catch((error: unknown) => drop(name, error));
    const passes: Pass[] = [
      ...batches.map((sequences): Pass => ({ op: 'decode', sequences, context, times: TIMES })),
      { op: 'prefill', tokens: promptTokens, times: TIMES },
      { op: 'image', times: TIMES },
    ];
    const rows: Row[] = [];
    for (const pass of passes) {
      const seconds = new Map<string, number[]>();
      for (let round = 0; round < ROUNDS; round++)
        for (const [name, engine] of Array.from(engines))
          try {
            const { seconds: times = [] } = await engine.call({ ...pass, warmUp: true });
            seconds.set(name, [...(seconds.get(name) ?? []), ...times]);
          } catch (error) {
            await drop(name, error);
            seconds.delete(name);
          }
      rows.push(...rowsOf(pass, seconds, options));
    }
    return rows;
  } finally {
    await Promise.all([...engines.values()].map((engine) => engine.stop()));
  }
}

/** Ours against each peer: the share of its speed. */
function rowsOf(
  pass: Pass,
  seconds: ReadonlyMap<string, readonly number[]>,
  { name, context, promptTokens }: PeersBenchOptions,
): Row[] {
  const milliseconds = (engine: string): number => 1000 * median(seconds.get(engine) ?? []);
  const what =
    pass.op === 'decode'
      ? `decode, batch ${pass.sequences}, context ${context}`
      : pass.op === 'prefill'
        ? `prefill, ${promptTokens} tokens`
        : 'image encode, 1 layer';
  return [...seconds.keys()]
    .filter((engine) => engine !== OURS)
    .map((peer) => ({
      metric: what,
      shape: name,
      unit: 'ms',
      value: milliseconds(OURS),
      limit: milliseconds(peer),
      limitOf: `the speed of ${peer}`,
      least: true,
    }));
}
