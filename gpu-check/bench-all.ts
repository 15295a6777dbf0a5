// All benches on one device, each in a process of its own: one finds the memory of the one before free again.
import { BENCHES, type BenchRow } from './bench.ts';
import { DeviceFailure, DeviceProcess } from './device-process.ts';

export async function* benchAll(device: number, only: string): AsyncGenerator<BenchRow> {
  for (const name of BENCHES.keys()) {
    if (!name.includes(only)) continue;
    const gpu = await DeviceProcess.start('cuda', device);
    try {
      yield* (await gpu.run({ type: 'bench', name }, 'rows')).rows;
    } catch (error) {
      if (!(error instanceof DeviceFailure)) throw error;
      process.stdout.write(`bench ${name} failed: ${error.message}\n`);
    } finally {
      gpu.stop();
    }
  }
}
