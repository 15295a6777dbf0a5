// One rank of a collective group in a process of its own: runs the calls that the test sends and answers with their results.
import { native } from '../../../runtime/native/index.ts';
import type { DType, Tensor } from '../../../runtime/native/index.ts';

export type RankCall =
  | { call: 'create'; rank: number; worldSize: number; timeoutMs: number }
  | { call: 'connect'; addresses: number[][] }
  | { call: 'allReduce'; dtype: DType; rows: number; values: number[]; times: number }
  | { call: 'allGather'; rows: number; values: number[] }
  | { call: 'broadcast'; values: number[]; root: number; integers: boolean }
  | { call: 'swap'; values: number[]; first: number; second: number }
  | { call: 'close' };

export type RankAnswer =
  { result: unknown } | { error: { name: string; code: string | undefined; message: string } };

const ops = native();
ops.setThreads(1);

function matrix(dtype: DType, rows: number, values: readonly number[]): Tensor {
  const wide = ops.scratch('float32', rows, values.length / rows);
  ops.write(wide, 0, new Uint8Array(Float32Array.from(values).buffer));
  return ops.convert(wide, null, dtype);
}

function run(request: RankCall): unknown {
  switch (request.call) {
    case 'create':
      return ops
        .createCollective(request.rank, request.worldSize, '127.0.0.1', request.timeoutMs)
        .map((bytes) => [...bytes]);
    case 'connect':
      ops.connectCollective(request.addresses.map((bytes) => Uint8Array.from(bytes)));
      return null;
    case 'allReduce': {
      const x = matrix(request.dtype, request.rows, request.values);
      for (let i = 0; i < request.times; i++) ops.allReduce(x);
      return [...ops.readFloat32(x)];
    }
    case 'allGather': {
      const gathered = ops.allGatherColumns(matrix('float32', request.rows, request.values));
      return { shape: ops.shape(gathered), values: [...ops.readFloat32(gathered)] };
    }
    case 'broadcast': {
      const bytes = request.integers ? Int32Array.from(request.values) : Uint8Array.from(request.values);
      ops.broadcast(bytes, request.root);
      return [...bytes];
    }
    case 'swap': {
      const into = new Uint8Array(request.values.length);
      ops.swap(Uint8Array.from(request.values), into, request.first, request.second);
      return [...into];
    }
    case 'close':
      ops.closeCollective();
      return null;
    default:
      throw new TypeError(`unknown call ${JSON.stringify(request)}`);
  }
}

process.on('message', (request: RankCall) => {
  const mark = ops.mark();
  let answer: RankAnswer;
  try {
    answer = { result: run(request) };
  } catch (error) {
    const { name, code, message } = error as Error & { code?: string };
    answer = { error: { name, code, message } };
  }
  ops.release(mark);
  process.send?.(answer);
});
process.send?.({ result: 'ready' } satisfies RankAnswer);
