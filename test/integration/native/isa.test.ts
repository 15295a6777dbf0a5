import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';

const run = promisify(execFile);
const root = join(import.meta.dirname, '../../..');
const order = ['scalar', 'avx2', 'avx512', 'avx512_bf16', 'amx'];

async function isaUnder(limit: string | undefined): Promise<{ isa: string; bfloat16Matmul: boolean }> {
  const script = `import { native } from ${JSON.stringify(join(root, 'runtime/native/index.ts'))};
    console.log(JSON.stringify(native().cpuInfo()));`;
  const environment = { ...process.env, INTERNVL_MAX_CPU_ISA: limit ?? '' };
  const { stdout } = await run(process.execPath, ['--input-type=module', '-e', script], { env: environment });
  return JSON.parse(stdout) as { isa: string; bfloat16Matmul: boolean };
}

describe('INTERNVL_MAX_CPU_ISA', () => {
  it.each(order.slice(0, -1))('%s lowers what is used to at most that', async (limit) => {
    const best = await isaUnder(undefined);
    const limited = await isaUnder(limit);
    const expected = Math.min(order.indexOf(best.isa), order.indexOf(limit));
    expect(order.indexOf(limited.isa)).toBe(expected);
    expect(limited.bfloat16Matmul).toBe(limited.isa === 'avx512_bf16');
  });

  it.each(order.slice(0, -1))(
    '%s: every operation still equals its plain expression',
    async (limit) => {
      const vitest = join(root, 'node_modules/vitest/vitest.mjs');
      const { stdout } = await run(
        process.execPath,
        [vitest, 'run', '--project', 'unit', 'runtime/native', '--reporter', 'json'],
        { cwd: root, env: { ...process.env, INTERNVL_MAX_CPU_ISA: limit }, maxBuffer: 1 << 26 },
      );
      const report = JSON.parse(stdout.slice(stdout.indexOf('{'))) as {
        success: boolean;
        numPassedTests: number;
      };
      expect(report.success).toBe(true);
      expect(report.numPassedTests).toBeGreaterThan(200);
    },
    120_000,
  );
});
