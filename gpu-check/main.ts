// Checks the CUDA backend against the CPU's on this machine, and measures it. For machines that have a GPU and nothing of ours:
// scripts/package-gpu-check.ts packs this with all it needs.
import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { benchAll } from './bench-all.ts';
import { checkAnswers } from './check-answers.ts';
import { checkOperations } from './check-operations.ts';
import { DeviceProcess, DeviceFailure } from './device-process.ts';
import { describeMachine } from './machine.ts';
import { describe } from '../bench/results.ts';
import type { Row } from './rows.ts';

const USAGE = `usage: gpu-check [--checks | --bench] [--only TEXT] [--device N] [--json FILE]

  --checks       each operation and the demo model's answers, on the GPU against the CPU
  --bench        with generated weights of the 40B's shape: copies, products and attention, forward passes, the engine's
                 loop, a minute of requests through a router; layers of it beside PyTorch, where python3 has it
                 (checks and benches unless one is named)
  --only TEXT    checks, or benches, whose names contain it
  --device N     which GPU (0)
  --json FILE    writes what was found, a row for each, also when the check ends early

Ends with 0 when all is well, 1 when a check failed, 2 for wrong arguments, 3 when there is no GPU to check.
`;
const MODEL = fileURLToPath(new URL('../examples/demo-model', import.meta.url));

interface Options {
  readonly checks: boolean;
  readonly bench: boolean;
  readonly only: string;
  readonly device: number;
  readonly json: string | undefined;
}

function readOptions(): Options | undefined {
  try {
    const { values } = parseArgs({
      options: {
        checks: { type: 'boolean', default: false },
        bench: { type: 'boolean', default: false },
        only: { type: 'string', default: '' },
        device: { type: 'string', default: '0' },
        json: { type: 'string' },
        help: { type: 'boolean', default: false },
      },
    });
    if (values.help || !/^\d{1,3}$/.test(values.device)) return undefined;
    const both = values.checks === values.bench;
    return {
      checks: both || values.checks,
      bench: both || values.bench,
      only: values.only,
      device: Number(values.device),
      json: values.json,
    };
  } catch {
    return undefined;
  }
}

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}

/** The exit code. */
async function run(options: Options, row: (row: Row) => void): Promise<number> {
  const machine = describeMachine();
  row({ kind: 'machine', ...machine });
  say(`${machine.cpu}, ${machine.cores} cores, ${machine.memoryGiB} GiB, Node ${machine.node}`);
  for (const line of [...machine.cards, ...machine.packages]) say(`  ${line}`);
  let gpu: DeviceProcess;
  try {
    gpu = await DeviceProcess.start('cuda', options.device);
  } catch (error) {
    if (!(error instanceof DeviceFailure)) throw error;
    row({ kind: 'no device', reason: error.message });
    say(`gpu-check: there is no GPU to check: ${error.message}`);
    return 3;
  }
  const { info } = gpu;
  const { name, capability, totalBytes } = info;
  row({ ...info, kind: 'device' });
  say(
    `device ${options.device}: ${name}, compute capability ${capability}, ${(totalBytes / 2 ** 30).toFixed(1)} GiB`,
  );
  gpu.stop();

  let failed = 0;
  if (options.checks) {
    for (const check of [checkOperations, checkAnswers]) {
      for await (const result of check({ device: options.device, only: options.only, model: MODEL })) {
        row({ kind: 'check', ...result });
        if (!result.passed) failed++;
        say(
          `${result.passed ? 'ok    ' : 'FAILED'} ${result.name}${result.note === '' ? '' : `: ${result.note}`}`,
        );
      }
    }
    say(failed === 0 ? 'all checks passed' : `${failed} checks failed`);
  }
  if (options.bench) {
    const { device, only } = options;
    for await (const result of benchAll({ device, info, only, model: MODEL, say })) {
      row({ kind: 'bench', ...result });
      say(describe(result));
    }
  }
  return failed === 0 ? 0 : 1;
}

const options = readOptions();
if (options === undefined) {
  process.stderr.write(USAGE);
  process.exitCode = 2;
} else {
  const rows: Row[] = [];
  try {
    process.exitCode = await run(options, (row) => rows.push(row));
  } finally {
    if (options.json !== undefined) writeFileSync(options.json, `${JSON.stringify(rows, null, 1)}\n`);
  }
}
