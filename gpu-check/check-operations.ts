// Each native operation on the GPU against the CPU.
import { CASES } from './cases.ts';
import { compare } from './compare.ts';
import { DeviceFailure, DeviceProcess } from './device-process.ts';
import type { CheckOptions, CheckResult } from './rows.ts';

export async function* checkOperations({ device, only }: CheckOptions): AsyncGenerator<CheckResult> {
  const cpu = await DeviceProcess.start('cpu', 0);
  let gpu = await DeviceProcess.start('cuda', device);
  try {
    for (const [index, { name, tolerance }] of CASES.entries()) {
      if (!name.includes(only)) continue;
      const task = { type: 'case', index } as const;
      const expected = cpu.run(task, 'results');
      try {
        const [found, reference] = await Promise.all([gpu.run(task, 'results'), expected]);
        const { worst, where } = compare(found.values, reference.values, tolerance);
        const passed = worst <= 1;
        yield { name, passed, note: passed ? closeness(worst) : where };
      } catch (error) {
        if (!(error instanceof DeviceFailure)) throw error;
        await expected;
        yield { name, passed: false, note: error.message };
        // After a fault a device's process is good for nothing more.
        gpu.stop();
        gpu = await DeviceProcess.start('cuda', device);
      }
    }
  } finally {
    cpu.stop();
    gpu.stop();
  }
}

function closeness(worst: number): string {
  return worst === 0 ? '' : `${(100 * worst).toFixed(0)} % of the tolerance`;
}
