// The tests in C++: of the emulation itself, and of what the CUDA backend does under the operations.
import { execFileSync } from 'node:child_process';
import { dirname, join } from 'node:path';
import { expect, it } from 'vitest';

const folder = join(dirname(process.env['INTERNVL_NATIVE_ADDON']!), 'cuda_on_host');

it.each([
  'emulation_test',
  'backend_test',
  'group_test',
  'cuda_kernel_tests/attention_test',
  'cuda_kernel_tests/float8_test',
  'cuda_kernel_tests/matmul_test',
  'cuda_kernel_tests/dynamic_library_test',
  'cuda_kernel_tests/token_weight_test',
])(
  '%s',
  (program) => {
    const output = execFileSync(join(folder, program), {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    expect(output).toMatch(/\b0 failed$/m);
  },
  180_000,
);
