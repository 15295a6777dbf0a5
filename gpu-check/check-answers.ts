// The demo model's answers on the GPU against the CPU's.
import { DeviceFailure, DeviceProcess } from './device-process.ts';
import type { CheckOptions, CheckResult } from './rows.ts';

const DTYPES = ['float32', 'bfloat16'] as const;

export async function* checkAnswers({ device, only, model }: CheckOptions): AsyncGenerator<CheckResult> {
  for (const dtype of DTYPES) {
    const name = `answers of the demo model in ${dtype}`;
    if (!name.includes(only)) continue;
    const devices = await Promise.all([DeviceProcess.start('cuda', device), DeviceProcess.start('cpu', 0)]);
    try {
      const task = { type: 'answers', dtype, model } as const;
      const [found, expected] = await Promise.all(devices.map((one) => one.run(task, 'answers')));
      const pairs = (expected?.tokens ?? []).map((tokens, i) => [tokens, found?.tokens[i] ?? []] as const);
      const alike = pairs.map(([want, got]) => sameAtFirst(want, got));
      const whole = pairs.filter(([want], i) => alike[i] === want.length).length;
      // Sums in another order may turn a close choice in bfloat16; a wrong kernel does not wait for one.
      const passed = dtype === 'float32' ? whole === pairs.length : alike.every((count) => count > 0);
      yield { name, passed, note: `${whole} of ${pairs.length} alike, in tokens ${alike.join(', ')}` };
    } catch (error) {
      if (!(error instanceof DeviceFailure)) throw error;
      yield { name, passed: false, note: error.message };
    } finally {
      for (const one of devices) one.stop();
    }
  }
}

/** How many tokens are the same before the first that is not. */
function sameAtFirst(want: readonly number[], got: readonly number[]): number {
  const different = want.findIndex((token, i) => got[i] !== token);
  return different < 0 ? want.length : different;
}
