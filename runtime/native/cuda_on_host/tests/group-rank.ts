// One rank of a group whose tensors are on the emulation, in a process of its own: tells the test its addresses, is told its peers', and
// answers with what became of its exchanges.
import { loadAddon } from '../../load.ts';
import type { CollectiveWays, DType, Tensor } from '../../index.ts';

export interface Exchanged {
  readonly ways: CollectiveWays;
  readonly sums: Record<DType & ('float32' | 'bfloat16'), number[]>;
  readonly columns: number[];
  /** Of a recorded graph, launch by launch. */
  readonly recorded: number[][];
}
export interface Failed {
  readonly name: string;
  readonly message: string;
  readonly milliseconds: number;
}
export interface RankInputs {
  readonly worldSize: number;
  readonly rank: number;
  /** The rank that is killed instead of exchanging on; null: none. */
  readonly dies: number | null;
}

const { worldSize, rank, dies } = JSON.parse(process.argv[2]!) as RankInputs;
const ops = loadAddon();
ops.useDevice('cuda', 0);

function filled(dtype: DType, rows: number, cols: number, value: (i: number) => number): Tensor {
  const wide = ops.scratch('float32', rows, cols);
  const values = Float32Array.from({ length: rows * cols }, (_, i) => value(i));
  ops.write(wide, 0, new Uint8Array(values.buffer));
  return ops.convert(wide, null, dtype);
}

function exchanged(ways: CollectiveWays): Exchanged {
  const mark = ops.mark();
  const sum = (dtype: DType): number[] => {
    const x = filled(dtype, 3, 7, (i) => i + 100 * rank);
    ops.allReduce(x);
    return [...ops.readFloat32(x)];
  };
  const sums = { float32: sum('float32'), bfloat16: sum('bfloat16') };
  const columns = [...ops.readFloat32(ops.allGatherColumns(filled('float32', 2, 3, (i) => i + 10 * rank)))];
  ops.release(mark);

  const x = ops.allocate('float32', [1, 5]);
  ops.beginGraph();
  ops.allReduce(x);
  const gathered = ops.allGatherColumns(x);
  const graph = ops.endGraph([gathered]);
  ops.release(mark);
  const recorded = [1, 2, 3].map((launch) => {
    ops.write(x, 0, new Uint8Array(Float32Array.from({ length: 5 }, () => launch * (rank + 1)).buffer));
    const [result] = ops.launchGraph(graph);
    const values = [...ops.readFloat32(result!)];
    ops.release(mark);
    return values;
  });
  return { ways, sums, columns, recorded };
}

function failed(): Failed {
  const x = ops.allocate('float32', [1, 5000]);
  let start = Date.now();
  try {
    for (let round = 0; ; round++) {
      if (rank === dies && round === 10) process.kill(process.pid, 'SIGKILL');
      start = Date.now();
      ops.allReduce(x);
      ops.readFloat32(x);
    }
  } catch (error) {
    const { name, message } = error as Error;
    return { name, message, milliseconds: Date.now() - start };
  }
}

process.once('message', (addresses: readonly (readonly number[])[]) => {
  const ways = ops.connectCollective(addresses.map((bytes) => Uint8Array.from(bytes)));
  process.send!(dies === null ? exchanged(ways) : failed(), () => {
    ops.closeCollective();
    process.disconnect();
  });
});
process.send!(ops.createCollective(rank, worldSize, '127.0.0.1', 4000).map((bytes) => [...bytes]));
