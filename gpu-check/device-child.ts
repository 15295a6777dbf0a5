// One device's process: does what it is told and answers. A device that faults takes no other down with it.
import { availableParallelism } from 'node:os';
import { native } from '../runtime/native/index.ts';
import { DEVICE_BENCHES } from './bench.ts';
import { CASES } from './cases.ts';
import { answers } from './demo-answers.ts';
import type { Reply, Task } from './messages.ts';
import { Operands } from './operands.ts';

function answer(reply: Reply): void {
  process.send?.(reply);
}

function failed(error: unknown): void {
  answer({ type: 'failed', message: error instanceof Error ? error.message : String(error) });
}

async function perform(task: Task): Promise<Reply> {
  const ops = native();
  if (task.type === 'answers') return { type: 'answers', tokens: answers(task.model, task.dtype) };
  if (task.type === 'bench')
    return { type: 'rows', rows: (await DEVICE_BENCHES.get(task.name)?.(ops)) ?? [] };
  const operands = new Operands(ops, task.index + 1);
  const values = CASES[task.index]?.run(operands) ?? [];
  operands.free();
  return { type: 'results', values };
}

process.on('message', (task: Task) => {
  void perform(task).then(answer, failed);
});
process.on('disconnect', () => process.exit());

try {
  const [kind, index] = process.argv.slice(2);
  const ops = native();
  ops.useDevice(kind === 'cuda' ? 'cuda' : 'cpu', Number(index));
  ops.setThreads(availableParallelism());
  answer({ type: 'ready', info: ops.deviceInfo() });
} catch (error) {
  failed(error);
}
